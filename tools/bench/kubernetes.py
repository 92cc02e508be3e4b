"""How fast the Kubernetes backend is, and what it asks of the API server.

All but the way to a register needs the tests' world (the rights of the bridge, boards that report), and
nothing here may import it; so that measuring is a program among them.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from pymodbus.exceptions import ModbusException

from cloud_bridge.backends.kubernetes import access
from cloud_bridge.backends.kubernetes.api import Api
from motelet.tools.bench import world
from motelet.tools.bench.figures import Figure, quantiles
from motelet.tools.cli import UserError
from motelet.tools.demo.system import DEVICE, System

PROGRAM = Path(__file__).resolve().parents[2] / "tests" / "kubernetes" / "measure.py"
SECONDS_MAX = 1200
ROUNDS = 100
ROUND_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.001
SETPOINTS = (24.5, 18.5)
PATH = f"/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices/{DEVICE}"


def measure() -> Iterator[Figure]:
    """`k8s.patch_to_edge_ms`, `.patch_to_register_ms`, `.report_to_status_ms`, and the API's writes."""
    yield from _of_program()
    folder = world.fresh("kubernetes")
    with world.cluster(folder) as cluster:
        samples = _patch_to_register(folder, cluster.kubeconfig())
    yield from quantiles("k8s.patch_to_register_ms", samples, "ms")


def _of_program() -> Iterator[Figure]:
    if not PROGRAM.exists():
        raise UserError(f"{PROGRAM} is missing: these figures need the source tree")
    done = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, timeout=SECONDS_MAX)
    if done.returncode:
        raise UserError(f"{PROGRAM.name} failed: {done.stderr.strip()[-500:]}")
    for line in done.stdout.splitlines():
        yield Figure(**json.loads(line))


def _patch_to_register(folder: Path, kubeconfig: Path) -> list[float]:
    """Milliseconds from the PATCH of a desired value to the register of a real Modbus server.

    Over a bridge with TLS and the real MicroPython, as the demo has them.
    """
    options = ["--kubernetes", "--kubeconfig", str(kubeconfig), "--bridge-name", "bench"]
    system = System(folder / "system", backend=options)
    system.prepare()
    try:
        system.start()
        return asyncio.run(_patches(system, kubeconfig))
    finally:
        system.stop()


async def _patches(system: System, kubeconfig: Path) -> list[float]:
    api = Api(access.find(kubeconfig))
    samples = []
    try:
        bodies = [
            each
            for path in sorted(system.manifests.glob("*.yaml"))
            for each in yaml.safe_load_all(path.read_text())
        ]
        for body in bodies:
            plural = f"{body['kind'].lower()}s"
            await api.request("POST", PATH.rpartition("/devices/")[0] + f"/{plural}", body)
        (device,) = [each for each in bodies if each["kind"] == "Device"]
        names = [each["name"] for each in device["spec"]["properties"]]
        where = f"/spec/properties/{names.index('setpoint')}/desired/value"
        await _until(system, 21.0)
        for number in range(ROUNDS):
            degrees = SETPOINTS[number % len(SETPOINTS)]
            patch = [{"op": "replace", "path": where, "value": str(degrees)}]
            began = time.perf_counter()
            asking = asyncio.create_task(api.request("PATCH", PATH, patch, "application/json-patch+json"))
            samples.append((await _until(system, degrees) - began) * 1000)
            await asking
    finally:
        await api.close()
    return samples


async def _until(system: System, degrees: float) -> float:
    """When the register holds the setpoint, by `time.perf_counter`. Raises UserError."""
    end = time.perf_counter() + ROUND_SECONDS_MAX
    while await asyncio.to_thread(_setpoint, system) != degrees:
        if time.perf_counter() > end:
            raise UserError(f"the register does not hold {degrees} within {ROUND_SECONDS_MAX:.0f} s")
        await asyncio.sleep(LOOK_SECONDS)
    return time.perf_counter()


def _setpoint(system: System) -> float | None:
    try:
        return system.registers.read().setpoint
    except ModbusException:
        return None  # it has just been started
