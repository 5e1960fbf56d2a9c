"""Beginning with the weights of another run: see test_training.py for checkpoints that are gone on with."""

from collections import OrderedDict

import torch

from corec.training.checkpoint import take_over


def network(inputs: int, width: int) -> torch.nn.Module:
    conv = torch.nn.Conv2d
    return torch.nn.Sequential(OrderedDict(head=conv(inputs, 4, 1), inner=conv(4, width, 3), outer=conv(width, 4, 3)))


def test_a_wider_network_begins_as_what_it_starts_from() -> None:
    old, new = network(2, 6), network(2, 9)
    further = new.inner.weight[6:].clone()
    take_over(new, old.state_dict())
    image = torch.rand(1, 2, 9, 9)
    torch.testing.assert_close(new(image), old(image))
    assert torch.equal(new.inner.weight[6:], further) and further.any()


def test_a_network_for_other_planes_takes_no_ends() -> None:
    old, new = network(2, 6), network(3, 5)
    kept = {name: weight.clone() for name, weight in new.state_dict().items()}
    take_over(new, old.state_dict())
    same = {"head.bias", "outer.bias"}
    for name, weight in new.state_dict().items():
        assert torch.equal(weight, old.state_dict()[name] if name in same else kept[name])


def ends(planes: int, width: int) -> torch.nn.Module:
    conv = torch.nn.Conv2d
    return torch.nn.Sequential(OrderedDict(head=conv(planes, width, 1), tail=conv(width, 4 * planes, 3)))


def test_ends_may_be_wider_within() -> None:
    old, new = ends(1, 5), ends(1, 8)
    take_over(new, old.state_dict())
    image = torch.rand(1, 1, 9, 9)
    torch.testing.assert_close(new(image), old(image))
    assert new.head.weight[5:].any() and not new.tail.weight[:, 5:].any()


def test_a_network_for_colour_begins_with_one_for_luma() -> None:
    old, new = ends(1, 5), ends(3, 5)
    chroma = new.tail.weight[4:].clone()
    take_over(new, old.state_dict())
    image = torch.rand(1, 3, 9, 9)
    torch.testing.assert_close(new(image)[:, :4], old(image[:, :1]))
    assert torch.equal(new.tail.weight[4:], chroma) and chroma.any()
    take_over(new, {})  # nor is it an error if there is nothing to take
    assert torch.equal(new.tail.weight[4:], chroma)
