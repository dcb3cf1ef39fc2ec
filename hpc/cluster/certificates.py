"""Make certificates for the TLS of one cluster: an authority, made at the launch, signs one for each node.

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
    authority_key = ec.generate_private_key(ec.SECP256R1())
    public_key = authority_key.public_key()
    signed = _builder(public_key, public_key, ca=True).sign(authority_key, SHA256())
    _write_key(key, authority_key)
    write_file(certificate, signed.public_bytes(Encoding.PEM), mode=0o600)


def sign(authority: tuple[Path, Path], address: str, certificate: Path, key: Path) -> None:
    """Write a new certificate, and its key, for the node with an address.

    Args:
        authority: the certificate and the key that `make_authority` wrote.
        address: IPv4, of the node.

    Raises:
        ValueError: the authority's files are damaged.
    """
    _authority_certificate, authority_key_file = authority
    authority_key = load_pem_private_key(authority_key_file.read_bytes(), password=None)
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{authority_key_file} has a key of another kind")
    node_key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    builder = _builder(node_key.public_key(), authority_key.public_key(), ca=False)
    signed = builder.add_extension(names, critical=False).sign(authority_key, SHA256())
    _write_key(key, node_key)
    write_file(certificate, signed.public_bytes(Encoding.PEM), mode=0o600)


def _builder(
    subject: ec.EllipticCurvePublicKey, issuer: ec.EllipticCurvePublicKey, *, ca: bool
) -> x509.CertificateBuilder:
    """Return a certificate that is not signed yet: of the authority (`ca`), or of a node."""
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(_name("authority" if ca else "node"))
        .issuer_name(_name("authority"))
        .public_key(subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=CLOCKS_DAYS))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )


def _name(role: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"transtailor {role}")])


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    write_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
