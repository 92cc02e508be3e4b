"""enrol and identity against a scripted bridge: answers that lie, and what is in the store at each moment."""

from binascii import hexlify
from hashlib import sha256

from motelet import csr, enrol, identity
from motelet.log import Log
from motelet.loop import Loop
from tests_util import Clock, MemoryPoller, MemoryStream, raises

CA = b"the DER of a CA"
TOKEN = hexlify(sha256(CA).digest()).decode() + ".head.claims.signature"


class Store:
    """kvlog's Store in a dict; `writes` counts, and raises at the one of number `cut`."""

    def __init__(self):
        self.data = {}
        self.get = self.data.get

    def __contains__(self, key):
        return key in self.data

    def put(self, key, value):
        self.batch([(key, value)])

    def batch(self, items):
        for key, value in items:
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = bytes(value)


class Board:
    """What EdgeHub is to these modules, its port, and the bridge by script: `answers` are given in turn."""

    def __init__(self, store=None, **config):
        self.clock = Clock()
        self.loop = Loop(self.clock, MemoryPoller(self.clock), self.failed)
        self.lines = []
        self.log = Log(self.lines.append, "debug")
        self.meta = self.port = self
        self.store = store or Store()
        self.config = {"host": "bridge", "node": "board-1"}
        self.config.update(config)
        self.context = None
        self.pair = 0
        self.answers = []
        self.asked = []
        self.made = []  # what TLS contexts were made of
        self.done = False

    def failed(self, task, error):
        raise error

    def random(self, n):
        return bytes([7]) * n

    def tls_unchecked(self):
        return "unchecked"

    def tls(self, ca, cert=None, key=None):
        if cert == b"unusable":
            raise ValueError("invalid cert")
        self.made.append((ca, cert, key))
        return (ca, cert, key)

    def tcp(self, host, port, context, name):
        mine, theirs = MemoryStream.pair(2560)
        self.asked.append(context)
        answer = self.answers.pop(0) if self.answers else b""
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = answer(self)
        theirs.write(answer)
        if not answer:
            theirs.close()
        return mine

    def join(self, ms=0):
        """Enrol, for so long; -> whether it came to an end."""

        def run(task):
            yield from enrol.enrol(self)
            self.done = True

        self.task = self.loop.spawn("edgehub", run)
        end = self.clock.now_ms + ms
        while not self.done and self.clock.now_ms <= end:
            self.loop.step(min(max(self.loop.due(), 0), 100))
            if self.loop.due() != 0:
                self.clock.advance(50)
        return self.done

    def warnings(self):
        return [line for line in self.lines if "not enrolled" in line]


def http(content, status=b"200 OK"):
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(content)) + content


def certificate(board):
    """A certificate for the key that the board asks with, as far as the board looks at it."""
    content = b"x" * 200 + board.store.get(".id/next")[-65:] + b"x" * 100
    return b"\x30\x82" + bytes([len(content) >> 8, len(content) & 255]) + content


def test_a_board_joins_and_forgets_the_token():
    told = []
    board = Board(token=TOKEN, enrolled=lambda: told.append(1))
    board.answers = [http(CA), lambda board: http(certificate(board))]
    assert board.join(1000)
    data = board.store.data
    assert sorted(data) == [".id/ca", ".id/cert", ".id/key", ".id/origin"]
    assert data[".id/ca"] == CA and board.context == (CA, data[".id/cert"], data[".id/key"])
    assert "token" not in board.config and told == [1]
    assert TOKEN[65:].encode() not in b"".join([data[key] for key in data])
    # The first connection proves nothing, so nothing is said there; the second checks the CA of the token.
    assert board.asked == ["unchecked", (CA, None, None)]


def test_the_next_start_uses_what_is_stored():
    board = Board(token=TOKEN)
    board.answers = [http(CA), lambda board: http(certificate(board))]
    board.join(1000)
    for config in ({}, {"token": TOKEN}):
        again = Board(board.store, **config)
        assert identity.load(again) and again.context == board.context
    for config in ({"token": TOKEN + "2"},):
        assert not identity.load(Board(board.store, **config))
    provisioned = Board(board.store, ca=b"a", cert=b"c", key=b"k")
    assert identity.load(provisioned) and provisioned.context == (b"a", b"c", b"k")
    assert not identity.load(Board())


def test_a_token_that_a_power_cut_left_is_forgotten_at_the_next_start():
    board = Board(token=TOKEN)
    board.answers = [http(CA), lambda board: http(certificate(board))]
    board.join(1000)
    told = []
    again = Board(board.store, token=TOKEN, enrolled=lambda: told.append(1))
    enrol.begin(again, identity.load(again))
    assert told == [1] and "token" not in again.config and again.context == board.context
    newer = Board(board.store, token=TOKEN + "2", enrolled=lambda: told.append(2))
    enrol.begin(newer, identity.load(newer))
    assert told == [1] and "token" in newer.config


def test_a_token_that_cannot_be_removed_keeps_nobody_out():
    def enrolled():
        raise OSError(30)

    board = Board(token=TOKEN, enrolled=enrolled)
    board.answers = [http(CA), lambda board: http(certificate(board))]
    assert board.join(1000) and not board.warnings()
    again = Board(board.store, token=TOKEN, enrolled=enrolled)
    enrol.begin(again, identity.load(again))
    assert len([line for line in board.lines + again.lines if "still there" in line]) == 2


ANSWERS = (
    b"",
    b"~",  # and never an end
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nabc",
    b"SSH-2.0-x\r\nContent-Length: 3\r\n\r\nabc",
    b"x" * 4000,
    http(b"", b"500 Internal Server Error"),
    http(b"another CA"),
    http(b""),
    OSError(111),
    ValueError("certificate not correctly signed"),
)


def test_answers_that_lie_for_the_ca():
    for answer in ANSWERS:
        board = Board(token=TOKEN)
        board.answers = [answer]
        assert not board.join(60000)
        assert board.warnings(), answer
        assert not board.store.data and len(board.asked) >= 2
        assert board.asked[1] == "unchecked"  # again from the start


def test_answers_that_lie_for_the_certificate():
    for answer in ANSWERS + (http(b"\x30\x82\x01"), http(b"\x30\x82\x00\x02ab"), http(b"x" * 1500)):
        board = Board(token=TOKEN)
        board.answers = [http(CA), answer, http(CA), lambda board: http(certificate(board))]
        assert board.join(120000), answer
        assert len(board.warnings()) == 1, answer
        assert ".id/next" not in board.store.data


def test_a_refusal_of_the_bridge_is_shown_without_control_characters():
    board = Board(token=TOKEN)
    board.answers = [http(CA), http(b"no\nerror gateway x\x1b[2J", b"401 Unauthorized")]
    board.join(500)
    (line,) = board.warnings()
    assert "401 Unauthorized" in line and "\n" not in line and "\x1b" not in line


def test_tries_back_off():
    board = Board(token=TOKEN)
    board.join(600000)
    assert 10 <= len(board.warnings()) <= 28, len(board.warnings())


def test_after_a_power_cut_the_same_key_is_asked_for_again():
    board = Board(token=TOKEN)
    board.answers = [http(CA), http(b"", b"500 x")]
    board.join(300)
    key = board.store.data[".id/next"]
    again = Board(board.store, token=TOKEN)
    assert not identity.load(again)
    again.answers = [http(CA), lambda board: http(certificate(board))]
    assert again.join(1000)
    assert again.store.data[".id/key"] == key


def test_what_is_no_token():
    for token in (
        None,
        5,
        "",
        "a.b.c.d",
        TOKEN[1:],
        TOKEN + ".x",
        TOKEN + "\r\nX: y",
        TOKEN + " ",
        TOKEN + "x" * 1000,
    ):
        raises(ValueError, enrol.check, token)
    enrol.check(TOKEN)


# -- the change to the next certificate -----------------------------------------------------------


def member(**config):
    """A board that has joined, and has a request for its next certificate under way."""
    board = Board(token=TOKEN)
    board.answers = [http(CA), lambda board: http(certificate(board))]
    board.join(1000)
    board.config.update(config)
    board.random = lambda n: bytes([9]) * n
    made = []

    def run(task):
        made.append((yield from identity.request(board, task)))

    board.loop.spawn("renewal", run)
    while not made:
        board.loop.step(0)
    return board


def test_a_renewal_keeps_the_older_pair_until_the_newer_was_welcomed():
    board = member()
    older = board.context
    identity.store_next(board, certificate(board))
    assert board.context == older and board.pair == identity.OLDER
    identity.other_pair(board)  # the link has ended
    newer = board.context
    assert newer != older and board.pair == identity.NEWER
    identity.other_pair(board)  # it did not get in
    assert board.context == older
    identity.welcomed(board)
    assert ".id/next-cert" in board.store.data  # the older did, which proves nothing of the newer
    identity.other_pair(board)
    identity.welcomed(board)
    assert board.pair == identity.ONLY and board.context == newer
    assert sorted(board.store.data) == [".id/ca", ".id/cert", ".id/key", ".id/origin"]
    assert board.store.data[".id/cert"] == newer[1]


def test_after_a_power_cut_the_newer_pair_is_tried_first():
    board = member()
    identity.store_next(board, certificate(board))
    again = Board(board.store)
    assert identity.load(again)
    assert again.pair == identity.NEWER and again.context[1] == board.store.data[".id/next-cert"]
    board.store.data[".id/next-cert"] = b"unusable"
    again = Board(board.store)
    assert identity.load(again)
    assert again.pair == identity.OLDER and again.context == board.context
    identity.other_pair(again)  # stays with what works
    assert again.pair == identity.OLDER and again.context == board.context


def test_a_certificate_for_another_key_is_refused():
    board = member()
    good = certificate(board)
    for bad in (
        b"",
        good[:-1],
        good + b"x",
        good.replace(board.store.data[".id/next"][-65:], b"y" * 65),
        b"0\x82",
    ):
        raises(ValueError, identity.store_next, board, bad)
    assert board.pair == identity.ONLY and ".id/next-cert" not in board.store.data


def test_a_provisioned_identity_is_stored_with_its_first_renewal():
    board = member()
    config = {"ca": b"a", "cert": b"c", "key": b"k"}
    provisioned = Board(**config)
    assert identity.load(provisioned)
    provisioned.store.put(".id/next", board.store.data[".id/next"])
    identity.store_next(provisioned, certificate(provisioned))
    again = Board(provisioned.store, **config)
    assert identity.load(again) and again.pair == identity.NEWER
    identity.other_pair(again)
    assert again.context == (b"a", b"c", b"k")
    # Another certificate in the configuration starts anew.
    other = Board(provisioned.store, ca=b"a", cert=b"C", key=b"k")
    assert identity.load(other) and other.pair == identity.ONLY and other.context == (b"a", b"C", b"k")


def test_a_damaged_identity_is_not_a_plain_link():
    board = member()
    del board.store.data[".id/ca"]
    raises(ValueError, identity.load, Board(board.store))


def test_the_key_is_in_the_der_that_tls_takes():
    board = member()
    key, public = csr.key_of(board.store.data[".id/key"])
    assert key == bytes([7]) * 32 and public[0] == 4
