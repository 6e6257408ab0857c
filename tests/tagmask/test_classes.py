import pytest

from tagmask.classes import class_name_fault


@pytest.mark.parametrize("name", ["cat", "polar-bear", "猫", "Background", "..", "a/b", "a" * 200])
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
    ],
)
def test_the_fault_states_the_rule_and_the_remedy(name: str, fault: str):
    assert class_name_fault(name) == fault
