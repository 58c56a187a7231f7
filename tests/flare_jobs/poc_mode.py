"""A server and sites in NVIDIA FLARE's POC mode, each with an allow-list of its own."""

import json
import os
import time
from contextlib import closing, contextmanager, suppress

import psutil
from nvflare.fuel.flare_api.flare_api import new_secure_session
from nvflare.recipe.session_mgr import SessionManager
from nvflare.tool.poc import poc_commands as poc

ADMIN = "admin@nvidia.com"


@contextmanager
def sites(workspace, count, server, client):
    """Start a server and ``count`` sites, and end them; yield a session of the administrator.

    The lists hold what is allowed beside NVIDIA FLARE's own, with commas between.
    """
    place = workspace / "poc"
    os.environ["NVFLARE_POC_WORKSPACE"] = str(place)
    poc.prepare_poc_provision([], count, str(place), None, False, "", None)
    (prod,) = (place / "example_project").glob("prod_*")
    restrict(prod / "server", server.split(","))
    for number in range(1, count + 1):
        restrict(prod / f"site-{number}", client.split(","))
    poc._start_poc(poc_workspace=str(place), gpu_ids=[], excluded=[ADMIN], services_list=[])
    try:
        administrator = {"username": ADMIN, "startup_kit_location": str(prod / ADMIN)}
        wait_for_all(count, new_secure_session(**administrator, timeout=120))
        yield SessionManager({**administrator, "timeout": 120})
    finally:
        # A stop that NVIDIA FLARE is asked for waits for every site, also for one that went down.
        end_all_below(place)


def wait_for_all(count, session, seconds=120):
    """Wait until all sites have joined: a job starts as soon as as many as it needs have."""
    until = time.monotonic() + seconds
    with closing(session):
        while len(session.get_system_info().client_info) < count:
            assert time.monotonic() < until, f"not all of {count} sites joined in {seconds} seconds"
            time.sleep(0.2)


def end_all_below(place):
    """End what works in a folder, also what a script there starts again meanwhile."""
    for _ in range(10):
        found = [
            process
            for process in psutil.process_iter(["cmdline", "status"])
            if f"{place}{os.sep}" in " ".join(process.info["cmdline"] or ())
            and process.info["status"] != psutil.STATUS_ZOMBIE
        ]
        if not found:
            return
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=10)
    raise AssertionError(f"these cannot be ended: {found}")


def restrict(site, allowed):
    """Give a site a list of its own, as its operator would write it."""
    path = site / "local" / "resources.json"
    default = path.with_suffix(".json.default")
    # The server keeps its jobs in a folder for all that runs on the machine, unless told otherwise.
    text = default.read_text().replace('"/tmp/nvflare', f'"{site / "kept"}')
    resources = json.loads(text)
    resources["class_allow_list"] = [*resources["class_allow_list"], *allowed]
    path.write_text(json.dumps(resources))
