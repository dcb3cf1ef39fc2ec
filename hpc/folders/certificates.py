"""Certificates for the TLS of one cluster: an authority made at the launch signs one for each node.

A node answers only clients with a certificate of this authority, and a certificate is valid for only one address.
"""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from transtailor.files import write_file

VALID_DAYS = 3650  # a run may be launched again years later
CLOCKS_DAYS = 1  # by which the clocks of nodes may differ


def make_authority(certificate: Path, key: Path) -> None:
    """Write a new authority; the certificate is written last, so if it exists, the key does too."""
    own = ec.generate_private_key(ec.SECP256R1())
    made = _builder(own.public_key(), own.public_key(), ca=True).sign(own, SHA256())
    _write_key(key, own)
    write_file(certificate, made.public_bytes(Encoding.PEM), mode=0o600)


def sign(authority: tuple[Path, Path], address: str, certificate: Path, key: Path) -> None:
    """Write a new certificate, and its key, for the node with an address.

    Args:
        authority: the certificate and the key that `make_authority` wrote.
        address: IPv4, of the node.

    Raises:
        ValueError: the authority's files are damaged.
    """
    of_authority = load_pem_private_key(authority[1].read_bytes(), password=None)
    if not isinstance(of_authority, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{authority[1]} has a key of another kind")
    own = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    builder = _builder(own.public_key(), of_authority.public_key(), ca=False).add_extension(names, critical=False)
    _write_key(key, own)
    write_file(certificate, builder.sign(of_authority, SHA256()).public_bytes(Encoding.PEM), mode=0o600)


def _builder(
    subject: ec.EllipticCurvePublicKey, issuer: ec.EllipticCurvePublicKey, *, ca: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
         "decipher_only"), False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(_name("authority" if ca else "node"))
        .issuer_name(_name("authority"))
        .public_key(subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=CLOCKS_DAYS))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )


def _name(role: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"transtailor {role}")])


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    write_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
