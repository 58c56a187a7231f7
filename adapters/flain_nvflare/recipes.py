"""Adds the workflow to NVIDIA FLARE's recipes."""

from __future__ import annotations

from typing import Any

from flain_core import SettingsError

from .purify import Purify


def add_purification(recipe: Any, purify: Purify, *, custom_code: bool = True) -> None:
    """Purify what a recipe trains, after its last round.

    Add it before ``add_final_global_evaluation`` or ``add_cross_site_evaluation``; they then
    evaluate the purified model.

    Args:
        recipe: A training recipe with a persistor, such as ``FedAvgRecipe``.
        purify: The workflow.
        custom_code: True lets the job carry a copy of the workflow's module, as jobs do with every
            class that is not NVIDIA FLARE's, which needs a server that accepts custom code. False
            leaves it out; the server's ``class_allow_list`` then needs the entry
            ``"flain_nvflare."``. Either way flain is installed on the server.

    Raises:
        SettingsError: The recipe has no such persistor, or evaluates already.
    """
    job = recipe._job  # NVIDIA FLARE's own helpers reach it the same way.
    if getattr(recipe, "_cse_added", False):
        raise SettingsError(
            "the recipe evaluates the model already, before it would be purified; add the "
            "purification first"
        )
    persistor = getattr(job, "comp_ids", {}).get("persistor_id")
    if persistor != purify.persistor_id:
        raise SettingsError(
            f"the workflow saves with the persistor {purify.persistor_id!r}, and the recipe "
            + (f"has {persistor!r}: give Purify(persistor_id=...)" if persistor else "has none")
        )
    if not custom_code:
        job.set_app_packages([__package__])
    job.to_server(purify)
