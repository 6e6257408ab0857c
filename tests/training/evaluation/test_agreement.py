from pathlib import Path

from training.evaluation.agreement import LEAST, useless_hints, useless_saliency

NETWORK = Path("folder/isnet.onnx")


def test_a_network_that_hardly_follows_the_tags_is_told_with_the_remedy():
    (text,) = useless_saliency(NETWORK, {"saliency_agreement": 0.51})
    assert text.startswith("saliency network isnet.onnx: agrees with the tags at 0.51, where 0.5 is chance")
    assert "leave it out" in text
    assert "saliency.normalization" in text


def test_others_are_not():
    assert useless_saliency(NETWORK, {"saliency_agreement": LEAST}) == []
    assert useless_saliency(None, {"saliency_agreement": 0.5}) == []
    assert useless_saliency(NETWORK, {"saliency_agreement": None}) == []
    assert useless_saliency(NETWORK, {}) == []


def test_hints_that_were_not_used_are_told_with_the_remedy():
    (text,) = useless_hints({"hint_agreement": {"cat": LEAST, "crack": 0.5, "dog": 0.59}})
    assert text.startswith(
        "hints that disagree with the tags on most photos were not used: crack at 0.50, dog at 0.59, where 0.5 is"
    )
    assert "leave out those that are wrong" in text
    assert useless_hints({"hint_agreement": {"cat": LEAST}}) == useless_hints({}) == []
