// Runs a probe on MicroPython for WebAssembly: its object sizes are a 32-bit board's.
//
//   node wasm_host.mjs FOLDER_OF_MICROPYTHON FOLDER_OF_STAND_INS FOLDER_OF_MPY PROBE [ARGUMENT...]
//
// That MicroPython has no sockets, so the host lends it TCP connections to 127.0.0.1 as functions of
// small integers: `addr` is where a buffer lies in its memory, and no call allocates on its heap. They
// return a count, 0 at the end of the stream, -1 when there is nothing to do now, -2 when it is broken.
//
// An argument that names a file is handed on with the file. MicroPython cannot wait here: a probe that has a function `step` is called again whenever a connection has
// news or the milliseconds that it returned are over, until it returns a negative number.

import { createHash, randomFillSync } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { pathToFileURL } from "node:url";

const READ = 1;
const WRITE = 4;
const WRITE_QUEUE_MAX = 65536;
const [micropython, standIns, files, probe, ...args] = process.argv.slice(2);

// The interpreter does not export its memory, so it is taken where every module passes.
let memory;
const instantiate = WebAssembly.instantiate;
WebAssembly.instantiate = async (...given) => {
  const result = await instantiate(...given);
  memory = result.instance.exports.memory;
  return result;
};
const bytes = (addr, n) => Buffer.from(memory.buffer, addr, n);

const sockets = new Map();
let nextId = 1;
let notify = () => {};

globalThis.motelet_open = (port) => {
  const state = { socket: net.connect(port, "127.0.0.1"), chunks: [], ended: false, failed: false, open: false };
  state.socket.setNoDelay(true);
  state.socket.on("connect", () => { state.open = true; notify(); });
  state.socket.on("data", (chunk) => { state.chunks.push(chunk); notify(); });
  state.socket.on("drain", () => notify());
  state.socket.on("end", () => { state.ended = true; notify(); });
  state.socket.on("error", () => { state.failed = true; notify(); });
  sockets.set(nextId, state);
  return nextId++;
};

globalThis.motelet_read = (id, addr, n) => {
  const { chunks, ended, failed } = sockets.get(id);
  if (chunks.length === 0) return failed ? -2 : ended ? 0 : -1;
  const count = chunks[0].copy(bytes(addr, n));
  if (count === chunks[0].length) chunks.shift();
  else chunks[0] = chunks[0].subarray(count);
  return count;
};

globalThis.motelet_write = (id, addr, n) => {
  const { socket, open, failed } = sockets.get(id);
  if (failed) return -2;
  if (!open || socket.writableLength > WRITE_QUEUE_MAX) return -1;
  socket.write(Buffer.from(bytes(addr, n)));  // a copy: the buffer is used again at once
  return n;
};

globalThis.motelet_ready = (id) => {
  const { socket, chunks, ended, failed, open } = sockets.get(id);
  if (failed) return READ | WRITE;
  return (chunks.length || ended ? READ : 0) | (open && socket.writableLength <= WRITE_QUEUE_MAX ? WRITE : 0);
};

globalThis.motelet_close = (id) => {
  sockets.get(id).socket.destroy();
  sockets.delete(id);
};

globalThis.motelet_sha1 = (addr, n, out) => createHash("sha1").update(bytes(addr, n)).digest().copy(bytes(out, 20));
globalThis.motelet_random = (addr, n) => { randomFillSync(bytes(addr, n)); };

function copyTree(FS, from, to) {
  for (const entry of fs.readdirSync(from, { withFileTypes: true })) {
    const source = path.join(from, entry.name);
    const target = `${to}/${entry.name}`;
    if (entry.isDirectory()) {
      FS.mkdir(target);
      copyTree(FS, source, target);
    } else if (entry.name.endsWith(".mpy")) {
      FS.writeFile(target, fs.readFileSync(source));
    }
  }
}

async function main() {
  const { loadMicroPython } = await import(pathToFileURL(path.join(micropython, "micropython.mjs")));
  const mp = await loadMicroPython({ heapsize: 256 * 1024, stdout: (line) => console.log(line), linebuffer: true });
  for (const [from, to] of [[standIns, "/standins"], [files, "/files"]]) {
    mp.FS.mkdir(to);
    copyTree(mp.FS, from, to);
  }
  for (const [at, argument] of args.entries()) {
    if (!fs.existsSync(argument)) continue;
    args[at] = `/${path.basename(argument)}`;
    mp.FS.writeFile(args[at], fs.readFileSync(argument));
  }
  const setting = JSON.stringify([probe, ...args]);
  // Not ".frozen": it holds Python versions of modules, such as binascii, that a board has in C.
  mp.runPython(`import sys\nsys.path[:] = ["/standins", "/files"]\nsys.argv[:] = ${setting}`);
  const module = mp.pyimport(probe);
  const step = "step" in module ? module.step : () => -1;
  let wait = step();
  while (wait >= 0) {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      notify = () => { clearTimeout(timer); resolve(); };
    });
    notify = () => {};
    wait = step();
  }
  process.exit(0);
}

main().catch((error) => {
  console.error(error.name === "PythonError" ? error.message : error);
  process.exit(1);
});
