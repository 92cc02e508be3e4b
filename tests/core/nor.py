"""A NOR flash in RAM for tests, on both interpreters. It enforces the rules of the chip and counts."""

SLOW_MS = 400  # an erase of chips that are cold or old
_PIECE = 512  # small allocations find a place in a board's heap


class Nor:
    """A program may only clear bits, and only whole units of one block; anything else is an AssertionError.

    `programmed` (bytes), `erases` and `erases_of[block]` count. `stuck` holds blocks that no longer erase
    or program as asked; with `dead` set each program and erase is an OSError. What is blank takes no RAM.
    """

    def __init__(self, blocks=16, prog_size=32, block_size=4096):
        self.block_size = block_size
        self.blocks = blocks
        self.prog_size = prog_size
        self.programmed = self.erases = 0
        self.erases_of = [0] * blocks
        self.stuck = set()
        self.dead = False
        self._content = [None] * (blocks * (block_size // _PIECE))

    def read(self, offset, buf):
        size = len(buf)
        assert offset >= 0 and offset // self.block_size == (offset + size - 1) // self.block_size
        done = 0
        while done < size:
            piece = self._content[(offset + done) // _PIECE]
            at = (offset + done) % _PIECE
            count = min(size - done, _PIECE - at)
            buf[done : done + count] = piece[at : at + count] if piece else b"\xff" * count
            done += count

    def prog(self, offset, buf):
        size = len(buf)
        assert size > 0 and offset % self.prog_size == 0 and size % self.prog_size == 0
        block = offset // self.block_size
        assert block == (offset + size - 1) // self.block_size
        self.programmed += size
        if self.dead:
            raise OSError(5)
        mask = 0xFE if block in self.stuck else 255
        for at in range(offset, offset + size):
            piece = self._materialise(at // _PIECE)
            if piece[at % _PIECE] != 255:
                raise AssertionError("program over programmed bytes at %d" % at)
            piece[at % _PIECE] = buf[at - offset] & mask

    def erase(self, block):
        assert 0 <= block < self.blocks
        self.erases += 1
        self.erases_of[block] += 1
        if self.dead:
            raise OSError(5)
        count = self.block_size // _PIECE
        for number in range(block * count, (block + 1) * count):
            self._content[number] = None
        if block in self.stuck:
            self._materialise(number)[-1] = 0xFE

    def sync(self):
        pass

    def flip(self, offset, bits=1):
        """What radiation does, or age."""
        self._materialise(offset // _PIECE)[offset % _PIECE] ^= bits

    def _materialise(self, number):
        if self._content[number] is None:
            self._content[number] = bytearray(b"\xff" * _PIECE)
        return self._content[number]


class SlowNor(Nor):
    """Sets `clock`, once there is one, forward by SLOW_MS at each erase."""

    clock = None

    def erase(self, block):
        super().erase(block)
        if self.clock is not None:
            self.clock.advance(SLOW_MS)
