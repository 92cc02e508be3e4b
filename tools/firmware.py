"""Names that the firmware of boards has, and so keeps in ROM."""

from __future__ import annotations

import builtins
import hashlib
import io
import re
import struct
import sys
import types
from array import array
from collections import deque
from itertools import chain

# The identifiers that .mpy files count on every MicroPython to have (static_qstr_list in its
# py/makeqstrdata.py), those that mean nothing to the language.
_ALWAYS = """
abs all any append args bool builtins bytearray bytecode bytes callable chr classmethod clear close copy
count dict dir divmod end endswith eval exec extend find format from_bytes get getattr globals hasattr hash
id index insert int isalpha isdigit isinstance islower isspace issubclass isupper items iter join key keys
len list little locals lower lstrip main map micropython next object open ord pop popitem pow print range
read readinto readline remove replace repr reverse rfind rindex round rsplit rstrip send sep set setattr
setdefault sort sorted split start startswith staticmethod step strip sum throw to_bytes tuple type update
upper value values write zip ArithmeticError AssertionError AttributeError BaseException EOFError Ellipsis
Exception GeneratorExit ImportError IndentationError IndexError KeyError KeyboardInterrupt LookupError
MemoryError NameError NoneType NotImplementedError OSError OverflowError RuntimeError StopIteration
SyntaxError SystemExit TypeError ValueError ZeroDivisionError
"""
# And of modules that boards have: uctypes, struct, collections, math, random, select, time ..
_MODULES = """
ARRAY BFINT16 BFINT32 BFINT8 BFUINT16 BFUINT32 BFUINT8 BF_LEN BF_POS BIG_ENDIAN BytesIO FLOAT32 FLOAT64
INT16 INT32 INT64 INT8 IOBase LITTLE_ENDIAN NATIVE NotImplemented OrderedDict POLLERR POLLHUP POLLIN POLLOUT
PTR StopAsyncIteration StringIO TextIOWrapper UINT16 UINT32 UINT64 UINT8 UnicodeError VOID a2b_base64 acos
addressof appendleft argv array asin atan atan2 b2a_base64 bin binascii bound_method buffering bytearray_at
byteorder bytes_at calcsize ceil center closure collections compile copysign cos decode default delattr
deleter deque dict_view difference discard doc dump dumps enumerate errno errorcode exp fabs file fileno
filter float floor flush fmod frexp fromhex fromkeys frozenset function gc generator getrandbits getter
getvalue gmtime hashlib heap_lock heap_unlock heapify heappop heappush heapq help hex hexlify implementation
input intersection io ioctl ipoll isdisjoint isenabled isfinite isinf isnan issubset issuperset iterator
json kbd_intr keepends ldexp load loads localtime log log10 math max maxsize mem_alloc mem_free mem_info
memoryview min mktime mode modf modify module modules name namedtuple nan newline oct opt_level pack
pack_into partition pi platform poll popleft print_exception property ps1 ps2 qstr_info radians randint
random randrange rb readlines real register reversed rpartition schedule search seed select setter sha256
sin single sizeof sleep sleep_ms sleep_us slice splitlines sqrt stack_use stderr stdin stdout struct sub
symmetric_difference sync sys tan tell threshold ticks_add ticks_cpu ticks_diff ticks_ms ticks_us time
time_ns trunc uctypes unhexlify union unpack unpack_from unregister version version_info
AUTO DeflateIO EACCES EADDRINUSE EAGAIN EALREADY EBADF ECONNABORTED ECONNREFUSED ECONNRESET EEXIST
EHOSTUNREACH EINPROGRESS EINVAL EIO EISDIR ENOBUFS ENODEV ENOENT ENOMEM ENOTCONN EOPNOTSUPP EPERM ETIMEDOUT
FrameBuffer GS2_HMSB GS4_HMSB GS8 GZIP LONG LONGLONG MONO_HLSB MONO_HMSB MONO_VLSB MVLSB RAW RGB565
SHORT INT Task TaskQueue UINT ULONG ULONGLONG USHORT ZLIB acosh asinh atanh blit chdir choice cosh coro
cur_task data degrees done e ellipse erf erfc expm1 factorial fill fill_rect framebuf gamma getcwd group
hline ilistdir inf isclose lgamma line listdir log2 match mkdir mkfs peek ph_key phase pixel polar poly push
readblocks rect rename rmdir scroll separators sinh stat state statvfs tanh tau text umount uniform
unlink vline writeblocks
"""
ROM = (*_ALWAYS.split(), *_MODULES.split())

# What things of MicroPython's are called, or have: what Python has as well, and what it lacks.
_LACKS = """
const self heap_lock heap_unlock mem_alloc mem_free mem_info ticks_ms ticks_us ticks_add ticks_diff sleep_ms
ipoll unpack_from pack_into readinto print_exception addressof feed deinit mount
"""
_THINGS = (
    *(each for each in vars(builtins).values() if isinstance(each, type)),
    *(builtins, hashlib, hashlib.sha256(), struct, sys, array, deque, io.StringIO, re, types.GeneratorType),
)
MEANINGFUL = frozenset(chain(_ALWAYS.split(), _MODULES.split(), _LACKS.split(), *map(dir, _THINGS)))
