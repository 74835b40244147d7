"""`python -m kpng.lab.apiserver`: the API server of the lab on its own. For tests and demos only."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import uvloop
import yaml

from kpng.lab.apiserver import ApiError, ApiServer
from kpng.load import objects, parse_shape
from kpng.model import UserError

logger = logging.getLogger("kpng.lab.apiserver")


class _Failure(click.ClickException):
    exit_code = 2


@click.command(help=__doc__)
@click.option("--listen", default="127.0.0.1:8001", show_default=True, metavar="HOST:PORT")
@click.option(
    "--manifests",
    type=click.Path(exists=True, path_type=Path),
    help="YAML or JSON file, or directory of them, to load",
)
@click.option(
    "--shape",
    metavar="NAME=VALUE,...",
    help="objects to make: services=10000,endpoints=10,nodes=5000,dual_stack (the fields of kpng.load.Shape)",
)
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    help="file to keep all changes in; if it has any, they are what is served, and nothing else is loaded",
)
@click.option("--write-kubeconfig", type=click.Path(path_type=Path), help="file to write for kubectl")
@click.option("--token", help="bearer token that clients must send")
def main(
    listen: str,
    manifests: Path | None,
    shape: str | None,
    journal: Path | None,
    write_kubeconfig: Path | None,
    token: str | None,
) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    gc.set_threshold(100_000, 50, 100)
    try:
        server = ApiServer(token=token)
        if journal is None or not _resume(server, journal):
            if manifests is not None:
                _load(server, manifests)
            if shape is not None:
                server.load(objects(parse_shape(shape)))
        gc.freeze()  # a look for cycles among so many objects takes longer than anything else here
        uvloop.run(_serve(server, listen, write_kubeconfig))
    except UserError as error:
        raise _Failure(str(error)) from error


async def _serve(server: ApiServer, listen: str, kubeconfig: Path | None) -> None:
    host, _, port = listen.rpartition(":")
    if not port.isdecimal():
        raise UserError(f"--listen {listen}: expected HOST:PORT")
    try:
        url = await server.start(host.strip("[]") or "127.0.0.1", int(port))
    except OSError as error:
        raise UserError(f"cannot listen on {listen}: {error.strerror}") from error
    if kubeconfig is not None:
        server.kubeconfig(kubeconfig)
    logger.info("serving on %s (lab server: not for production)", url)
    await _interrupted()
    await server.stop()
    logger.info("stopped")


async def _interrupted() -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()


def _resume(server: ApiServer, journal: Path) -> int:
    try:
        changes = server.keep_journal(journal)
    except OSError as error:
        raise UserError(f"{journal}: {error.strerror}") from error
    except (ApiError, ValueError) as error:
        raise UserError(f"{journal}: {error}") from error
    logger.info("%d changes in %s", changes, journal)
    return changes


def _load(server: ApiServer, place: Path) -> None:
    count = 0
    for path in _files(place):
        try:
            objects = [thing for thing in yaml.safe_load_all(path.read_text()) if thing]
            server.load(objects)
        except (yaml.YAMLError, ApiError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: {' '.join(str(error).split())}") from error
        count += len(objects)
    logger.info("loaded %d objects from %s", count, place)


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    else:
        yield from sorted(path for path in place.iterdir() if path.suffix in (".yaml", ".yml", ".json"))


if __name__ == "__main__":
    main()
