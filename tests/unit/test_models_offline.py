from __future__ import annotations

from typing import Any, cast

from pydantic_ai.models import Model

from pytest_siren.models.control import ScriptedModel


def test_the_profile_is_what_pydantic_ai_would_find() -> None:
    model = ScriptedModel("control:hijacked", None, None)
    assert model.profile == cast(Any, Model.profile).func(model)
    assert (model.model_name, model.system) == ("control:hijacked", "control")
