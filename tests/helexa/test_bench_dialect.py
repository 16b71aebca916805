"""How servers want requests to be put, learned from what they refuse."""

from helexa.bench.measuring.dialect import Fields

BODY = {"model": "m", "max_tokens": 4, "ignore_eos": True, "temperature": 0}


def test_at_first_a_request_is_sent_as_it_is() -> None:
    assert Fields().put(BODY) == BODY


def test_a_field_that_was_refused_is_left_out_from_then_on() -> None:
    fields = Fields()
    assert fields.learn(BODY, "Unrecognized request argument supplied: ignore_eos")
    assert fields.put(BODY) == {"model": "m", "max_tokens": 4, "temperature": 0}


def test_a_field_that_has_another_name_is_renamed() -> None:
    fields = Fields()
    assert fields.learn(BODY, "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.")
    assert fields.put({"max_tokens": 4}) == {"max_completion_tokens": 4}


def test_what_was_learned_is_not_learned_again() -> None:
    """Else a server that refuses everything would be asked for ever."""
    fields = Fields()
    said = "ignore_eos, temperature and max_completion_tokens"
    assert [fields.learn(BODY, said) for _ in range(4)] == [True, True, True, False]


def test_a_refusal_of_something_else_is_none_to_learn_from() -> None:
    fields = Fields()
    assert not fields.learn(BODY, "The model is overloaded.")
    assert not fields.learn({"model": "m"}, "ignore_eos")
    assert fields.put(BODY) == BODY
