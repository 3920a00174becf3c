"""ironic-python-agent, ready for its functions to be called; in its own virtual environment."""

from __future__ import annotations

import ironic_python_agent.config  # type: ignore[import-not-found]  # noqa: F401  it registers the options
from oslo_config import cfg
from oslo_log import log  # type: ignore[import-not-found]


def initialise() -> None:
    """Set it up as its own ``cmd/agent.py`` does, with every option at its default."""
    log.register_options(cfg.CONF)
    cfg.CONF(args=[], default_config_files=[], default_config_dirs=[])
    log.setup(cfg.CONF, "ironic-python-agent")
