from __future__ import annotations

import gzip
import json
from contextlib import closing, suppress
from pathlib import Path

import pytest
from conftest import MakeSettings
from hypothesis import given
from hypothesis import strategies as st

from labelstream.schemas.errors import BadRecord, SettingsError
from labelstream.schemas.messages import parse_product
from labelstream.schemas.product import Product
from labelstream.streaming.broker import KafkaCluster
from labelstream.streaming.chorus import parse_chorus_product, readable_name
from labelstream.streaming.importers import BadLine, publish_products, read_chorus_products, read_products
from labelstream.streaming.kafka_client import make_consumer
from labelstream.streaming.topics import EndOffsets, ensure_topics, partitions_of

CARTRIDGE = {
    "id": "1399",
    "name": "80",
    "title": "HP 80 Original Cyan",
    "supplier": "HP",
    "short_description": "80 175-ml Cyan DesignJet Ink Cartridge",
    "ean": ["0882780756328", "0088698629123"],
    "price": 12595,
    "attr_b_colour": True,
    "attr_b_wi_fi": False,
    "attr_n_colour_ink_volume": 175.0,
    "attr_n_pallet_height": 1397.0,
    "attr_n_last_change": 63903513.0,
    "attr_t_compatibility": "HP Designjet 1000",
    "attr_t_ink_type": "Dye-based ink",
    "attr_t_package_type": "Box",
    "attr_t_product_type": "Ink cartridge",
    "attr_t_storage_temperature__t_t_": "-40 - 60",
}


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def test_a_chorus_product_becomes_one_of_ours():
    product = parse_chorus_product(encoded(CARTRIDGE))
    assert product == Product(
        product_id="1399",
        title="HP 80 Original Cyan",
        brand="HP",
        category="Ink cartridge",
        description="80 175-ml Cyan DesignJet Ink Cartridge",
        attributes=product.attributes,
        price=125.95,
        alternative_ids=["0882780756328", "0088698629123"],
    )
    # Telling names first, then text, flags that are set, numbers, small print; how it is boxed is left out.
    assert list(product.attributes.items()) == [
        ("compatibility", "HP Designjet 1000"),
        ("ink type", "Dye-based ink"),
        ("colour", "yes"),
        ("colour ink volume", "175"),
        ("storage temperature", "-40 - 60"),
        ("wi fi", "no"),
    ]


def test_a_product_type_without_letters_is_no_category():
    assert parse_chorus_product(encoded(CARTRIDGE | {"attr_t_product_type": "1"})).category == ""


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("product_colour", "product colour"),
        ("thermal_design_power__tdp_", "thermal design power (tdp)"),
        ("operating_temperature__t_t_", "operating temperature"),
        ("dimensions__wxdxh_", "dimensions"),
        ("dimensions__w_x_d_x_h_", "dimensions"),
        ("ethernet_lan__rj_45__ports", "ethernet lan rj 45 ports"),
    ],
)
def test_attribute_names_are_readable(key: str, name: str):
    assert readable_name(key) == name


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"{", "record: no JSON"),
        (b"[1]", "record: send one JSON object"),
        (encoded({"title": "no id"}), "product_id:"),
        (encoded({"id": "1", "title": " "}), "title:"),
        (encoded(CARTRIDGE | {"price": "cheap"}), "price:"),
        (encoded(CARTRIDGE | {"price": -1}), "price:"),
        (encoded(CARTRIDGE | {"ean": "0882780756328"}), "alternative_ids:"),
        (encoded(CARTRIDGE | {"attr_t_ink_type": ["a"]}), "attributes.ink type:"),
    ],
)
def test_a_bad_product_is_named_by_its_field(line: bytes, field: str):
    with pytest.raises(BadRecord, match=f"^{field.replace('.', '[.]')}"):
        parse_chorus_product(line)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_any_value_anywhere_is_a_product_or_a_bad_record(value: object):
    for key in CARTRIDGE:
        with suppress(BadRecord):
            assert parse_chorus_product(encoded(CARTRIDGE | {key: value})).title


def test_a_bad_line_is_reported_and_the_rest_is_read(tmp_path: Path):
    path = tmp_path / "products.jsonl"
    path.write_bytes(b'{"product_id": 1, "title": "a"}\r\n\n{"product_id": 2}\n{"product_id": 3, "title": "c"}')
    bad: list[BadLine] = []
    assert [product.product_id for product in read_products(path, bad.append)] == ["1", "3"]
    assert [str(line) for line in bad] == [f"{path}:3: title: Field required"]


def test_bad_lines_are_logged_by_default(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "products.jsonl"
    path.write_text("{}")
    assert list(read_products(path)) == []
    assert f"{path}:1: product_id" in caplog.text


@pytest.mark.parametrize("cut", [20, 60])
def test_a_damaged_or_missing_file_is_a_settings_error(tmp_path: Path, cut: int):
    path = tmp_path / "products.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(b'{"product_id": %d, "title": "a"}\n' % n for n in range(999)))[:-cut])
    with pytest.raises(SettingsError, match="damaged after line"):
        list(read_products(path))
    with pytest.raises(SettingsError, match="No such file"):
        list(read_products(tmp_path / "nowhere"))


def test_every_product_of_chorus_is_read_and_found_by_its_events(data_dir: Path):
    bad: list[BadLine] = []
    products = list(read_chorus_products(data_dir / "chorus/products.jsonl.gz", bad.append))
    assert (len(products), bad) == (19_406, [])
    assert len({product.product_id for product in products}) == 19_406
    known = {ean for product in products for ean in product.alternative_ids}
    named = set()
    with gzip.open(data_dir / "ubi/chorus_log.ndjson.gz") as log:
        for line in log:
            target = (json.loads(line).get("event_attributes") or {}).get("object") or {}
            if target.get("object_id_field") == "primary_ean":
                named.add(target["object_id"])
    assert len(named) > 100
    assert named <= known


@pytest.mark.broker
def test_products_are_published_under_their_ids(kafka: KafkaCluster, fresh_topics: MakeSettings):
    settings = fresh_topics(kafka.bootstrap_servers)
    ensure_topics(settings)
    products = [Product(product_id=f"p{n}", title=f"title {n}", price=n, alternative_ids=["e"]) for n in range(2500)]
    steps: list[int] = []
    assert publish_products(iter(products), settings, steps.append) == 2500
    assert (sum(steps), len(steps)) == (2500, 3)
    read: dict[bytes, Product] = {}
    with EndOffsets(settings, [settings.products_topic]) as ask:
        ends = ask()
    with closing(make_consumer(settings, group=False)) as consumer:
        consumer.assign(partitions_of(consumer, settings.products_topic))
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for batch in consumer.poll(500).values():
                read |= {record.key: parse_product(record.value) for record in batch}
    assert read == {product.product_id.encode(): product for product in products}
