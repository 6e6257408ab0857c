from training.evaluation.warnings import warnings


def test_many_tags_in_doubt_are_told():
    (text,) = warnings(None, {"round": 3, "photos": 200, "doubts": 10}, {})
    assert text.startswith("10 tags on 200 photos may be wrong and taught nothing in round 3; look at them with")


def test_hints_that_were_not_used_are_told():
    (text,) = warnings(None, {"hint_agreement": {"cat": 0.5}}, {})
    assert text.startswith("hints that disagree")


def test_few_are_not():
    assert warnings(None, {"round": 3, "photos": 200, "doubts": 9}, {}) == []
    assert warnings(None, {"round": 3, "photos": 0, "doubts": 0}, {}) == []
    assert warnings(None, {"round": 3, "photos": 200}, {}) == []  # of an earlier version
