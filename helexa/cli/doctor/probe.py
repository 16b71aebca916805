"""Has torch compute something and tell about itself, as JSON.

A process of its own: a torch that was built for another processor ends the process that imports it, without an error.
"""

import json
import sys
import warnings


def main() -> None:
    """Print what `facts.Torch` holds."""
    import torch

    ones = torch.ones(8, 8, dtype=torch.bfloat16)
    total = float((ones @ ones).sum())
    if total != 512:  # noqa: PLR2004 - 8 x 8 sums of 8 ones
        sys.exit(f"its matrix product is wrong: {total}")
    with warnings.catch_warnings(record=True) as warned:  # that is how torch tells why it sees no GPU
        warnings.simplefilter("always")
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    told = {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "architectures": torch.cuda.get_arch_list(),
        "gpus": gpus,
        "said": " ".join(str(each.message) for each in warned),
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
