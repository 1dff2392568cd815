import torch

from voxward.architecture_search.rank import draw_candidates
from voxward.architecture_search.space import MacroSpace
from voxward.architecture_search.supernet import SuperNet
from voxward.nets.layout import Layout

NET = SuperNet(1, 2, MacroSpace(2, 2), Layout(2, ((1, 1), (2, 2)), filters=2, blocks=1), part=1)


def test_candidates_differ_have_the_best_cells_and_are_drawn_by_the_seed():
    found = draw_candidates(NET, 2, 4, seed=1)
    assert len({frozenset(genotype.paths) for genotype in found}) == len(found) == 4
    assert all(len(genotype.paths) == 2 and genotype.cells == NET.best_cells() for genotype in found)
    assert draw_candidates(NET, 2, 4, seed=1) == found != draw_candidates(NET, 2, 4, seed=2)


def test_no_more_candidates_than_there_are():
    paths = NET.space.counts().paths
    assert len(draw_candidates(NET, 1, 100, seed=0)) == paths
    assert draw_candidates(NET, paths + 1, 1, seed=0) == ()
    narrow = SuperNet(1, 2, NET.space, NET.layout, part=1)
    with torch.no_grad():
        narrow.beta.copy_(1000 * torch.arange(len(narrow.space.edges)))
    assert len(draw_candidates(narrow, 1, 3, seed=0)) == 1
