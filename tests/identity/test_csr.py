"""p256 and csr judged by `cryptography`: random keys, signatures, requests and the keys' DER."""

import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key
from cryptography.x509.oid import NameOID

from motelet import csr, p256

ROUNDS = 30


def result(generator):
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


@pytest.fixture
def chance():
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


def test_random_keys_and_signatures(chance):
    for _ in range(ROUNDS):
        key = p256.new_key(chance.randbytes)
        judge = ec.derive_private_key(int.from_bytes(key, "big"), ec.SECP256R1())
        point = judge.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        assert result(p256.public_key(key)) == point
        message = chance.randbytes(chance.randrange(100))
        digest = hashes.Hash(hashes.SHA256())
        digest.update(message)
        r, s = result(p256.sign(key, digest.finalize()))
        judge.public_key().verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))


def test_keys_and_requests_are_read_as_they_were_meant(chance):
    for size in (1, 10, 30, csr.NODE_SIZE_MAX):  # around the sizes at which DER's lengths grow
        node = "n" * size
        key = p256.new_key(chance.randbytes)
        public = result(p256.public_key(key))
        private = load_der_private_key(csr.private_key(key, public), None)
        assert private.private_numbers().private_value == int.from_bytes(key, "big")
        assert private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) == public
        request = x509.load_der_x509_csr(result(csr.request(node, key, public)))
        assert request.is_signature_valid
        assert request.public_key() == private.public_key()
        (name,) = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        (organization,) = request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        assert (name.value, organization.value) == (f"system:node:{node}", "system:nodes")


def test_small_halves_of_a_signature_keep_their_der_short(monkeypatch):
    key = (5).to_bytes(32, "big")
    public = result(p256.public_key(key))

    def short(key, digest):
        yield
        return 1 << 247, 3  # a first bit that is set, and many octets of zero

    monkeypatch.setattr(p256, "sign", short)
    request = x509.load_der_x509_csr(result(csr.request("n", key, public)))
    assert request.signature == encode_dss_signature(1 << 247, 3)
