"""The process around the simulator: a port, a thread for tests, a command line, and a prompt end.

`python -m onetake.dev.simulator --port 0` prints one line with its addresses once it answers.
"""

import argparse
import contextlib
import dataclasses
import logging
import signal
import socket
import sys
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from onetake.dev.simulator.app import VENDORS, SimulatorConfig, create_app

_UNAVAILABLE = 9
_STOP_WITHIN_S = 1  # requests that hang on demand are cut off after this long


@contextlib.contextmanager
def running(config: SimulatorConfig | None = None, host: str = "127.0.0.1", port: int = 0) -> Generator[str]:
    """Run a simulator in a thread of this process; yield its address, `http://HOST:PORT`.

    `config.public_url` defaults to that address. Raises OSError when the port is taken.
    """
    with _listen(host, port) as listener:
        address = _address(listener)
        server = _server(config or SimulatorConfig(), address)
        thread = threading.Thread(target=server.run, args=([listener],), name="simulator")
        thread.start()
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulator in the foreground until SIGINT or SIGTERM; return the exit code."""
    options = _options(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # uvicorn raises the signal again once it has stopped: an ordinary end, not a death by signal.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _stop)
    try:
        with _listen(options.host, options.port) as listener:
            address = _address(listener)
            server = _server(_config(options), address)
            print(_greeting(address), flush=True)  # noqa: T201 - the one line that a caller waits for
            server.run([listener])
    except _AskedToEnd:
        return 0
    except OSError as error:
        print(f"the simulator cannot start: {_reason(error, options)}", file=sys.stderr)  # noqa: T201
        return _UNAVAILABLE
    return 0


class _AskedToEnd(BaseException):
    """While it starts, or after it has stopped."""


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise _AskedToEnd


def _server(config: SimulatorConfig, address: str) -> uvicorn.Server:
    app = create_app(config if config.public_url else dataclasses.replace(config, public_url=address))
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            lifespan="on",
            log_level="error",
            access_log=False,  # it would write signed links
            timeout_graceful_shutdown=_STOP_WITHIN_S,
        )
    )


def _listen(host: str, port: int) -> socket.socket:
    """Listen before anything else starts, so that the address is known and the first caller is never refused."""
    listener = socket.create_server((host, port), backlog=2048)
    # Inherited by each connection. asyncio sets it only where the socket names TCP, which this one does not, and
    # every answer in two writes would wait 40 ms for the peer's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


def _greeting(address: str) -> str:
    return " ".join(
        ["simulator", address, *(f"{name}={address}{vendor.base_path}" for name, vendor in VENDORS.items())]
    )


def _reason(error: OSError, options: argparse.Namespace) -> str:
    if isinstance(error, BlockingIOError):
        return f"another simulator is using {options.home}"
    return f"{options.host}:{options.port}: {error.strerror}"


def _config(options: argparse.Namespace) -> SimulatorConfig:
    return SimulatorConfig(
        public_url=options.public_url,
        home=options.home,
        render_s=options.render_s,
        link_life_s=options.link_life_s,
        api_keys=dict(options.api_key),
        refund_failed_jobs=dict.fromkeys(options.refund_failed, True),
    )


def _vendor_and_key(text: str) -> tuple[str, str]:
    vendor, _, key = text.partition("=")
    if vendor not in VENDORS or not key:
        raise argparse.ArgumentTypeError(f"say VENDOR=KEY with a vendor of {', '.join(VENDORS)}")
    return vendor, key


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m onetake.dev.simulator", description="The vendors, simulated.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--home", type=Path, help="folder of the journal and the clips; without it they are not kept")
    parser.add_argument("--render-s", type=float, default=2.0, help="seconds that a job takes")
    parser.add_argument("--public-url", default="", help="address in result links, when it is not HOST:PORT")
    parser.add_argument("--link-life-s", type=float, default=24 * 3600.0, help="seconds that a result link lives")
    parser.add_argument("--api-key", type=_vendor_and_key, action="append", default=[], metavar="VENDOR=KEY")
    parser.add_argument("--refund-failed", choices=list(VENDORS), action="append", default=[], metavar="VENDOR")
    return parser.parse_args(arguments)
