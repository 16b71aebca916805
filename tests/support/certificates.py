"""Certificates made for a test, as the files that a topology names."""

from pathlib import Path
from typing import Any

import trustme
from attrs import define

from config import Tls


@define(eq=False)
class Authority:
    """Signs certificates, and is known by a file of its own.

    Attributes:
        directory: where the files lie.
    """

    directory: Path
    _ca: trustme.CA

    @classmethod
    def in_(cls, directory: Path) -> "Authority":
        directory.mkdir(exist_ok=True)
        return cls(directory, trustme.CA())

    @property
    def ca(self) -> str:
        """The file that `cortex.ca` names."""
        path = self.directory / "ca.pem"
        self._ca.cert_pem.write_to_path(path)
        return str(path)

    def files(self, name: str = "server", *identities: str, **dates: Any) -> Tls:
        """A certificate for these names, by default this machine's, and its `not_before` and `not_after`."""
        made = self._ca.issue_cert(*(identities or ("127.0.0.1", "localhost")), **dates)
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        made.private_key_pem.write_to_path(key)
        return Tls(str(certificate), str(key))
