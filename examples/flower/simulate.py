"""Runs the app with Ray and without a SuperLink, in one process that leaves nothing behind:

    python simulate.py --clients 5 rounds=6 'out="models"'

Everything after the options overrides [tool.flwr.app.config] in pyproject.toml, like --run-config
of `flwr run`.
"""

import argparse
import os
from pathlib import Path

import tomllib
from backdoored_mnist import client_app, server_app
from flwr.simulation import run_simulation


def flat(config, above=""):
    """Tables by dotted keys, as Flower hands them over."""
    plain = {}
    for key, value in config.items():
        inner = flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
        plain |= inner
    return plain


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("config", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()
    project = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text())
    try:
        given = tomllib.loads("\n".join(options.config))
    except tomllib.TOMLDecodeError as error:
        parser.error(f"expected TOML, with text in quotes, as 'out=\"models\"'; {error}")
    config = flat(project["tool"]["flwr"]["app"]["config"]) | flat(given)

    def configured(context):
        given, context.run_config = context.run_config, config
        yield
        # Flower refuses a context that comes back with another configuration.
        context.run_config = given

    for app in (client_app.app, server_app.app):
        app.lifespan()(configured)
    run_simulation(
        server_app.app,
        client_app.app,
        num_supernodes=options.clients,
        backend_config={
            "init_args": {
                "num_cpus": min(options.clients, os.cpu_count()),
                "include_dashboard": False,
            },
            "client_resources": {"num_cpus": 1, "num_gpus": 0},
        },
    )


if __name__ == "__main__":
    main()
