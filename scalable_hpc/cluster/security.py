"""The run's own certificate authority: one certificate for everyone who may speak to this scheduler.

The authority's private key never leaves memory and is dropped once it has signed, so nobody can sign a second
certificate. Workers read the files through the run directory, which only its owner may enter.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from scalable_hpc.cluster.private_files import make_private_directory, write_private
from scalable_hpc.cluster.quiet_import import Security

_LIFETIME = dt.timedelta(days=400)
"""Longer than any run."""

_CLOCK_SKEW = dt.timedelta(days=1)
"""A node whose clock is behind must not find the certificate "not yet valid"."""

_LONGEST_NAME = 64
"""X.509's limit for a common name."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificate authority, the certificate and its key lie."""

    ca: str
    cert: str
    key: str

    def as_dict(self) -> dict[str, str]:
        """Return the paths as ``scheduler.json`` carries them."""
        return asdict(self)

    def security(self) -> Security:
        """Return what Dask's scheduler, client and workers take; plain connections are refused."""
        return Security(
            require_encryption=True,
            tls_ca_file=self.ca,
            tls_scheduler_cert=self.cert,
            tls_scheduler_key=self.key,
            tls_client_cert=self.cert,
            tls_client_key=self.key,
            tls_worker_cert=self.cert,
            tls_worker_key=self.key,
        )

    def remove(self) -> None:
        """Delete the files, and their directory when nothing else lies in it."""
        for path in (self.key, self.cert, self.ca):
            Path(path).unlink(missing_ok=True)
        directory = Path(self.key).parent
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def create_tls_files(run_dir: Path, run_id: str) -> TlsFiles:
    """Make a fresh authority and certificate for a run under ``<run_dir>/security`` (0700, files 0600).

    Raises:
        OSError: the run directory cannot be written.
    """
    directory = make_private_directory(run_dir / "security")
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate(f"authority of {run_id}", authority_key, signed_by=None)
    certificate = _certificate(f"member of {run_id}", key, signed_by=(authority, authority_key))
    files = TlsFiles(ca=str(directory / "ca.pem"), cert=str(directory / "cert.pem"), key=str(directory / "key.pem"))
    write_private(Path(files.ca), authority.public_bytes(serialization.Encoding.PEM))
    write_private(Path(files.cert), certificate.public_bytes(serialization.Encoding.PEM))
    write_private(Path(files.key), _pem_of(key))
    return files


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    signed_by: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
) -> x509.Certificate:
    """Build a certificate; without a signer it is an authority and signs itself."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_LONGEST_NAME])])
    issuer = signed_by[0].subject if signed_by else subject
    signing_key = signed_by[1] if signed_by else key
    now = dt.datetime.now(tz=dt.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=signed_by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
        .sign(signing_key, hashes.SHA256())
    )
