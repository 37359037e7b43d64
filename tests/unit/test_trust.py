from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders.models import register

from lakescore import registry as library
from lakescore.config import ScoreJob, load, policy
from lakescore.errors import ConfigError
from lakescore.registry import Trust, artifacts, loaders
from lakescore.trust import DigestDiffers, NotTrusted

if TYPE_CHECKING:
    from conftest import Registry

ROOT = Path(__file__).parents[2]
DIGEST, OTHER = "sha256:" + "0" * 64, "sha256:" + "1" * 64
URI = "models:/delay/3"


def version(trust: Trust, **facts: Any) -> None:
    plain: dict[str, Any] = {
        "registry": "https://user:secret@mlflow.example/x",
        "location": "s3://models/prod/3",
        "tags": {"approved": "yes"},
        "aliases": ["champion"],
        "recorded": None,
    }
    trust.check_version(URI, **plain | facts)


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"registries": ["https"]},
        {"registries": ["https://mlflow.example"]},
        {"registries": ["sqlite", "https://MLFLOW.example/x"]},
        {"sources": ["s3"]},
        {"sources": ["s3://models"]},
        {"sources": ["s3://models/prod/"]},
        {"tags": {"approved": "yes"}},
        {"tags": {"approved": None}},
        {"aliases": ["challenger", "champion"]},
        {"digest": "required", "digests": {"delay/3": DIGEST}},
    ],
)
def test_a_version_that_keeps_the_rules_is_trusted(rules: dict[str, Any]) -> None:
    version(Trust(**rules))


@pytest.mark.parametrize(
    ("rules", "facts", "rule"),
    [
        ({"registries": ["sqlite"]}, {}, "registries"),
        ({"registries": ["https://mlflow.example.evil"]}, {}, "registries"),
        ({"registries": ["https://mlflow"]}, {}, "registries"),  # no part of a host's name
        ({"registries": ["http://mlflow.example"]}, {}, "registries"),
        ({"sources": ["s3://models/pro"]}, {}, "sources"),  # no part of a folder's name
        ({"sources": ["s3://model"]}, {}, "sources"),
        ({"sources": ["file"]}, {}, "sources"),
        ({}, {"location": "https://evil.example/model"}, "sources"),  # the web, by default
        ({}, {"location": "ftp://evil.example/model"}, "sources"),
        ({"sources": ["s3://models/prod"]}, {"location": "s3://models/prod/../x"}, "sources"),
        ({}, {"location": "file:///lake/..%2f..%2fetc"}, "sources"),
        ({}, {"location": "file:///lake/%252e%252e/etc"}, "sources"),
        ({"tags": {"approved": "no"}}, {}, "tags"),
        ({"tags": {"signed_off": None}}, {}, "tags"),
        ({"aliases": ["blessed"]}, {}, "aliases"),
        ({"aliases": ["champion"]}, {"aliases": []}, "aliases"),
        ({"digest": "required"}, {}, "digest"),
        ({"digest": "required", "digests": {"delay/4": DIGEST}}, {}, "digest"),
    ],
)
def test_the_refusal_says_which_rule(
    rules: dict[str, Any], facts: dict[str, Any], rule: str
) -> None:
    with pytest.raises(NotTrusted, match=f"rule '{rule}'") as refused:
        version(Trust(**rules), **facts)
    assert refused.value.exit_code == 4
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("rules", "facts", "rule"),
    [
        ({"flavours": ["sklearn"]}, {"flavours": ["sklearn", "evil.loader"]}, "flavours"),
        ({"flavours": ["sklearn"]}, {"flavours": ["python_function"]}, "flavours"),
        ({"formats": ["skops"]}, {"formats": ["cloudpickle"]}, "formats"),
        ({"formats": ["skops"]}, {"formats": ["code", "skops"]}, "formats"),
        ({"formats": ["skops"]}, {"formats": ["unknown"]}, "formats"),
    ],
)
def test_what_the_files_say_is_held_against_the_rules(
    rules: dict[str, Any], facts: dict[str, Any], rule: str
) -> None:
    plain = {"flavours": ["sklearn"], "formats": ["skops"]}
    Trust(**rules).check_files(URI, **plain)
    with pytest.raises(NotTrusted, match=f"rule '{rule}'"):
        Trust(**rules).check_files(URI, **plain | facts)


def test_the_digest_of_the_copy_is_the_one_that_is_known() -> None:
    pinned, wrong = Trust(digests={"delay/3": DIGEST}), Trust(digests={"delay/3": OTHER})
    assert Trust().check_digest(URI, DIGEST, recorded=None, tagged=DIGEST) is None
    assert Trust().check_digest(URI, DIGEST, recorded=DIGEST, tagged=None) == "the ledger"
    assert pinned.check_digest(URI, DIGEST, recorded=DIGEST, tagged=None) == "the trust policy"
    for trust, recorded, tagged, complaint in (
        (wrong, DIGEST, DIGEST, "the trust policy says sha256:1"),
        (pinned, OTHER, DIGEST, "the ledger says sha256:1"),
        (pinned, DIGEST, OTHER, "its tag says sha256:1"),
    ):
        with pytest.raises(DigestDiffers, match=complaint):
            trust.check_digest(URI, DIGEST, recorded=recorded, tagged=tagged)


def test_environments_are_none_where_there_is_any_rule() -> None:
    assert Trust().installing is None
    assert Trust(aliases=("champion",)).installing == "none"
    assert Trust(environments="wheels").installing == "wheels"


def test_nothing_is_fetched_of_a_version_that_the_registry_shows_to_be_untrusted(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "fetch", None)  # a call would be an error of another kind
    with pytest.raises(NotTrusted, match="rule 'aliases'"):
        library.resolve("flight-delay/1", trust=Trust(aliases=("champion",)))
    assert registry.client.get_model_version("flight-delay", "1")


def test_a_refused_pickle_is_never_opened(registry: Registry) -> None:
    """The file would raise if anything read it as a pickle; it is refused by its name alone."""
    register("trap", run_name="trap")
    (registry.files("trap", 1) / "model.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(NotTrusted, match="rule 'formats': it has cloudpickle; allowed: skops"):
        library.resolve("trap/1", trust=Trust(formats=("skops",)))
    registry.client.delete_registered_model("trap")


@pytest.mark.parametrize(
    ("loader", "flavours"),
    [
        ("mlflow.sklearn", ("sklearn",)),
        ("mlflow.pyfunc.model", ("sklearn", "python_function")),
        ("evil.loader", ("sklearn", "evil.loader")),
        ("mlflow.sklearn.evil", ("sklearn", "mlflow.sklearn.evil")),
    ],
)
def test_a_model_that_would_be_loaded_by_something_else_says_so(
    registry: Registry, tmp_path: Path, loader: str, flavours: tuple[str, ...]
) -> None:
    text = (registry.files("flight-delay", 1) / "MLmodel").read_text()
    (tmp_path / "MLmodel").write_text(text.replace("mlflow.sklearn\n", f"{loader}\n"))
    assert artifacts.card_of("models:/x/1", tmp_path).flavours == flavours


def test_the_file_of_the_policy_is_found_from_the_jobs_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = "model: a/1\ninput: {path: x}\noutput: {path: y}\nid_columns: [id]\n"
    (tmp_path / "rules.yaml").write_text("trust: {flavours: [sklearn]}\n")
    (tmp_path / "score.yaml").write_text(job + "trust: rules.yaml\n")
    (tmp_path / "plain.yaml").write_text(job)
    assert load(ScoreJob, tmp_path / "score.yaml").trust == Trust(flavours=("sklearn",))
    assert load(ScoreJob, tmp_path / "plain.yaml").trust == Trust()
    assert load(ScoreJob, tmp_path / "plain.yaml", ["trust.formats=[skops]"]).trust == Trust(
        formats=("skops",)
    )
    monkeypatch.setenv("LAKESCORE_TRUST", str(tmp_path / "rules.yaml"))
    assert load(ScoreJob, tmp_path / "plain.yaml").trust == Trust(flavours=("sklearn",))
    assert policy() == Trust(flavours=("sklearn",))


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ("flavors: [sklearn]", "unknown key 'flavors' in trust (did you mean 'flavours'?)"),
        ("formats: []", "trust.formats: Tuple should have at least 1 item"),
        ("digest: maybe", "trust.digest: Input should be 'optional' or 'required'"),
        ("digests: {a/1: x}", "trust.digests.a/1: String should match pattern"),
        ("environments: any", "trust.environments: Input should be 'none' or 'wheels'"),
    ],
)
def test_a_mistake_in_the_policy_ends_the_run_before_it_begins(
    tmp_path: Path, rules: str, sentence: str
) -> None:
    (tmp_path / "trust.yaml").write_text(f"trust: {{{rules}}}\n")
    with pytest.raises(ConfigError) as refused:
        policy(tmp_path / "trust.yaml")
    assert sentence in str(refused.value)


def test_the_policy_that_we_ship_trusts_the_demos_models() -> None:
    shipped = policy(ROOT / "conf" / "trust.yaml")
    shipped.check_files(URI, flavours=["sklearn"], formats=["cloudpickle"])
    assert load(ScoreJob, ROOT / "conf" / "score.yaml").trust == shipped


HONEST: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    # what MLflow writes: the flavour, its settings, python_function's besides, and the format
    "skops": (
        "sklearn",
        {"pickled_model": "m.skops", "serialization_format": "skops", "skops_trusted_types": None},
        {"model_path": "m.skops", "predict_fn": "predict"},
        "skops",
    ),
    "cloudpickle": (
        "sklearn",
        {"pickled_model": "m.pkl", "serialization_format": "cloudpickle", "code": None},
        {"model_path": "m.pkl", "predict_fn": "predict_proba"},
        "cloudpickle",
    ),
    "sklearn of old": ("sklearn", {"pickled_model": "m.pkl"}, {"data": "m.pkl"}, "pickle"),
    "a booster": (
        "lightgbm",
        {"data": "m.lgb", "model_class": "lightgbm.basic.Booster", "serialization_format": None},
        {"data": "m.lgb"},
        "lgb",
    ),
    "lightgbm of old": ("lightgbm", {"data": "m.lgb"}, {"data": "m.lgb"}, "lgb"),
    "LGBMRegressor": (
        "lightgbm",
        {
            "data": "m.pkl",
            "model_class": "lightgbm.sklearn.LGBMRegressor",
            "serialization_format": "cloudpickle",
            "skops_trusted_types": ["MLflow writes some, whatever the format"],
        },
        {"data": "m.pkl"},
        "cloudpickle",
    ),
    "XGBRegressor": (
        "xgboost",
        {"data": "m.ubj", "model_class": "xgboost.sklearn.XGBRegressor", "model_format": "ubj"},
        {"data": "m.ubj"},
        "ubj",
    ),
    "xgboost": ("xgboost", {"data": "m.xgb", "model_format": "xgb"}, {"data": "m.xgb"}, "xgb"),
    "catboost": (
        "catboost",
        {"data": "m.cb", "model_type": "CatBoostRegressor", "save_format": "cbm"},
        {"data": "m.cb"},
        "cbm",
    ),
    "onnx": (
        "onnx",
        {"data": "m.onnx", "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]},
        {"data": "m.onnx"},
        "onnx",
    ),
    "statsmodels": ("statsmodels", {"data": "m.sm"}, {"data": "m.sm"}, "pickle"),
    "spark": ("spark", {"model_data": "sparkml"}, {"data": "sparkml"}, "sparkml"),
}


def reading(tmp_path: Path, flavours: dict[str, Any]) -> loaders.Reading:
    (tmp_path / "MLmodel").write_text(json.dumps({"flavors": flavours}))  # JSON is YAML
    return artifacts.reading_of(URI, tmp_path)


@pytest.mark.parametrize("model", HONEST)
def test_what_mlflow_writes_is_read_in_a_known_way(tmp_path: Path, model: str) -> None:
    flavour, settings, besides, kind = HONEST[model]
    (file,) = [value for value in settings.values() if str(value).startswith(("m.", "sparkml"))]
    (tmp_path / file).mkdir() if flavour == "spark" else (tmp_path / file).write_text("")
    of_pyfunc = {"loader_module": f"mlflow.{flavour}", **besides}
    card = reading(tmp_path, {flavour: settings, "python_function": of_pyfunc})
    assert (card.flavours, card.formats, card.doubts) == ((flavour,), (kind,), ())
    assert card.files == (file,)
    (tmp_path / "other").write_text("")
    for key in besides.keys() - {"predict_fn"}:
        flavours = {flavour: settings, "python_function": {**of_pyfunc, key: "other"}}
        assert reading(tmp_path, flavours).doubts


def test_formats_are_those_that_the_loader_would_read(tmp_path: Path) -> None:
    (tmp_path / "m.skops").write_text("")
    of_pyfunc = {"loader_module": "mlflow.sklearn", "model_path": "m.skops"}
    for settings, formats in (
        # scikit-learn's loader takes what does not say so for a pickle, whatever else it says
        ({"model_format": "skops"}, ("pickle",)),
        ({"serialization_format": "joblib"}, ("unknown",)),
        (  # the file alone says which types its own loader shall trust
            {"serialization_format": "skops", "skops_trusted_types": ["os.system"]},
            ("skops", "skops-trusted-types"),
        ),
    ):
        of_sklearn = {"pickled_model": "m.skops", **settings}
        card = reading(tmp_path, {"sklearn": of_sklearn, "python_function": of_pyfunc})
        assert card.formats == formats
