"""A catalog whose fields have the wrong type says which one, and what belongs there."""

import pytest

from app.domain.catalog import CatalogError, parse_catalog

VALUES = {
    "text": '"1024x1024"',
    "number": "7",
    "number with too many zeros": "7_000_000_000_000",
    "fraction": "0.5",
    "flag": "true",
    "list of texts": '["1024x1024"]',
    "list of numbers": "[7]",
    "list of lists": '[["1024x1024"]]',
    "table of texts": '{ a = "0.1" }',
    "table of numbers": "{ a = 7 }",
    "table of lists": '{ a = ["url"] }',
    "table of tables": '{ a = { b = "url" } }',
    "list of tables": '[{ a = "url" }]',
    "date": "2026-01-01",
}
TABLES = {"size_aliases", "quality_aliases", "response_formats", "prices"}
OF_A_MODEL = {
    "name": "text",
    "enabled": "flag",
    "modes": "list of texts",
    "sizes": "list of texts",
    "qualities": "list of texts",
    "max_n": "number",
    "max_prompt_chars": "number",
    "references": "number",
    "reference_price": "text",
    "reference_field": "text",
    "aliases": "list of texts",
    "alias_patterns": "list of texts",
    **dict.fromkeys(sorted(TABLES), "table of texts"),
}
OF_THE_FILE = {"currency": "text", "default_model": "text", "name_prefixes": "list of texts"}
MODEL = {"name": '"a"', "modes": '["sync"]', "sizes": '["1x1"]', "qualities": '["standard"]'}


def wrong(fields: dict[str, str]) -> list[tuple[str, str]]:
    return [(key, kind) for key, right in fields.items() for kind in VALUES if kind != right]


def lines(fields: dict[str, str]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in fields.items())


@pytest.mark.parametrize(("key", "kind"), wrong(OF_A_MODEL))
def test_a_field_of_a_model_that_has_the_wrong_type_is_named(key: str, kind: str) -> None:
    model = lines({**MODEL, key: VALUES[kind]})

    with pytest.raises(CatalogError, match=rf"\b{key}\b.* must be ") as refused:
        parse_catalog(f'default_model = "a"\n[[models]]\n{model}')

    assert key == "name" or "a:" in str(refused.value)


@pytest.mark.parametrize(("key", "kind"), wrong(OF_THE_FILE))
def test_a_field_of_the_file_that_has_the_wrong_type_is_named(key: str, kind: str) -> None:
    head = lines({"default_model": '"a"', key: VALUES[kind]})

    with pytest.raises(CatalogError, match=rf"\b{key} must be "):
        parse_catalog(f"{head}[[models]]\n{lines(MODEL)}")


@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind != "list of tables"])
def test_models_are_a_list_of_tables(kind: str) -> None:
    with pytest.raises(CatalogError, match="models must be a list of tables"):
        parse_catalog(f'default_model = "a"\nmodels = {VALUES[kind]}')


@pytest.mark.parametrize("key", MODEL)
def test_a_field_that_is_missing_is_named(key: str) -> None:
    model = lines({name: value for name, value in MODEL.items() if name != key})

    with pytest.raises(CatalogError, match=f"'{key}' is missing"):
        parse_catalog(f'default_model = "a"\n[[models]]\n{model}')


def test_a_price_that_is_no_amount_is_named() -> None:
    with pytest.raises(CatalogError, match=r"a: prices of '\*'"):
        parse_catalog(
            f'default_model = "a"\n[[models]]\n{lines(MODEL)}[models.prices]\n"*" = "cheap"'
        )
