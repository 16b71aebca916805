"""Certificates from files: what a server shows, and whom its clients trust.

Everything that can be wrong with a file is found when it is read, before anything is started: a server with an expired
certificate would come up, and every client would turn away from it.
"""

import ssl
from contextlib import suppress
from pathlib import Path

from config import Tls
from helexa.faults import OperatorError

_NOT_YET, _EXPIRED = 9, 10
"""X.509 verification codes (OpenSSL, X509_verify_cert_error_string)."""


class CertificateError(OperatorError):
    """Files of certificates and keys that cannot be used; the message is a sentence that names file and setting."""


class _EncryptedError(Exception):
    """A private key that can only be read with a passphrase."""


def server_context(files: Tls, asked_by: str) -> ssl.SSLContext:
    """What a server of HTTP/1.1 over TLS 1.2 and later is made with.

    Args:
        files: certificate and key, as PEM.
        asked_by: the topology key that names them, for the error.

    Raises:
        CertificateError: a file is missing, not what it should be, or no longer valid; or the two do not belong
            together.
    """
    certificate = _readable(files.certificate, f"{asked_by}.certificate")
    key = _readable(files.key, f"{asked_by}.key")
    trusting = _trusting_only(certificate, f"{asked_by}.certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Not h2: there a client can stall a stream by its own flow control, which the kernel's time limit does not see.
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, _no_passphrase)
    except _EncryptedError:
        raise CertificateError(f"{_named(key, f'{asked_by}.key')}, needs a passphrase; store it without one.") from None
    except ssl.SSLError as error:
        raise CertificateError(_why_no_pair(certificate, key, asked_by, error)) from error
    _try_out(context, trusting, _named(certificate, f"{asked_by}.certificate"))
    return context


def client_context(ca: str | None = None, asked_by: str = "cortex.ca") -> ssl.SSLContext:
    """Whom a client trusts: whom the system trusts and, if given, those whose certificates are in a PEM file.

    Args:
        ca: the file.
        asked_by: the setting that names it, for the error.

    Raises:
        CertificateError: the file is missing, or holds no certificate.
    """
    context = ssl.create_default_context()
    if ca is not None:
        _load_trusted(context, _readable(ca, asked_by), asked_by)
    return context


def distrust(error: BaseException) -> str | None:
    """Why a certificate was not trusted, where an error comes from that; a sentence's end that begins with "its".

    trio and httpx raise errors of their own for it, whose texts are empty, or none of a user's concern.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not to be trusted: {cause.verify_message.rstrip('.')}"
        cause = cause.__cause__ or cause.__context__
    return None


def _readable(path: str, asked_by: str) -> Path:
    found = Path(path).expanduser()
    try:
        with found.open("rb"):
            return found
    except OSError as error:
        raise CertificateError(f"{_named(found, asked_by)}, cannot be read: {error.strerror or error}.") from error


def _named(path: Path, asked_by: str) -> str:
    return f"{path}, which {asked_by} names"


def _trusting_only(certificate: Path, asked_by: str) -> ssl.SSLContext:
    """A client's context for which that very certificate is enough, whoever has signed it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _load_trusted(context, certificate, asked_by)
    return context


def _load_trusted(context: ssl.SSLContext, certificate: Path, asked_by: str) -> None:
    try:
        context.load_verify_locations(certificate)
    except ssl.SSLError as error:
        raise CertificateError(f"{_named(certificate, asked_by)}, holds no certificate in PEM form.") from error


def _no_passphrase() -> str:
    """Asked for by OpenSSL, which would otherwise ask at the terminal and wait there."""
    raise _EncryptedError


def _why_no_pair(certificate: Path, key: Path, asked_by: str, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{_named(key, f'{asked_by}.key')}, is not the key of the certificate in {certificate}."
    if error.reason in {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}:
        return f"{_named(certificate, f'{asked_by}.certificate')}, is too weak ({error.reason}); make a stronger one."
    return f"{_named(key, f'{asked_by}.key')}, holds no private key in PEM form."


def _try_out(server: ssl.SSLContext, client: ssl.SSLContext, named: str) -> None:
    """Greet ourselves in memory: nothing else of the standard library tells whether a certificate is valid today."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for side in (asking, answering, asking, answering):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(_why_invalid(named, error)) from error
    except ssl.SSLError as error:
        raise CertificateError(f"{named}, cannot be used: {error.reason}.") from error


def _why_invalid(named: str, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == _EXPIRED:
        return f"{named}, holds a certificate that has expired."
    if error.verify_code == _NOT_YET:
        return f"{named}, holds a certificate that is not valid yet; is this machine's clock right?"
    return f"{named}, holds a certificate that clients would refuse: {error.verify_message}."
