from pathlib import Path

from training.evaluation.saliency import LEAST, useless_saliency

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
