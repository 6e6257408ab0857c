import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagmask.classes import class_key, class_name, class_name_fault, find_class


@pytest.mark.parametrize(
    "name",
    ["ශ්\u200dරී", "👩\u200d🚀", "cat", "polar-bear", "猫", "..", "a/b", "a" * 64, "l'été", "trousers_(pants)"],
)
def test_names_that_can_be_classes(name: str):
    assert class_name_fault(name) is None


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty; leave it out"),
        ("polar bear", "contains white space; join its words, such as polar-bear"),
        ("c\u2028t", "contains white space; join its words, such as polar-bear"),
        ("cat\x07", "contains an unprintable character; remove it"),
        ("\ud800", "contains an unprintable character; remove it"),
        ("background", "is reserved for pixels of no class; rename it"),
        ("Background", "is reserved for pixels of no class; rename it"),
        ("tabby,cat", "contains ',', which separates tags; write one name, or several tags as the format has it"),
        ("cat|dog", "contains '|', which separates tags; write one name, or several tags as the format has it"),
        ('["cat"', "begins or ends with a bracket or quotation mark; write the name alone"),
        ("'cat'", "begins or ends with a bracket or quotation mark; write the name alone"),
        ("a" * 65, "has 65 characters, more than 64; shorten it"),
    ],
)
def test_the_fault_states_the_rule_and_the_remedy(name: str, fault: str):
    assert class_name_fault(name) == fault


@pytest.mark.parametrize("other", ["Polar bear", "POLAR_BEAR", "polar-bear", " polar \u3000bear", "polar\xa0bear"])
def test_spellings_of_one_class(other: str):
    assert class_key(class_name(other)) == class_key("polar bear")
    assert find_class(class_name(other), ["background", "cat", "Polar_bear"]) == "Polar_bear"
    assert find_class(other, ["cat"]) is None


def test_names_are_shown_as_written():
    assert class_name(" Polar  bear\n") == "Polar_bear"
    assert class_name("ve\u0301lo") == "v\xe9lo"


def test_of_two_classes_of_an_old_bundle_the_exact_one_is_found():
    assert find_class("Cat", ["cat", "Cat"]) == "Cat"


@given(st.text(max_size=20))
@example("\u0345")
@example("ß")
def test_the_key_is_that_of_every_form(text: str):
    key = class_key(text)
    assert class_key(key) == key
    for form in ("NFC", "NFD"):
        assert class_key(unicodedata.normalize(form, text)) == key
    assert class_key(text.replace(" ", "_")) == key
    assert class_name(class_name(text)) == class_name(text)
