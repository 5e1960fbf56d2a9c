"""The claims of Zhao et al. 2017 ("Learning a Virtual Codec", arXiv 1712.05969) beside what is measured.

The folder holds test sets: paper7, set5, set14 and kodak, as far as there are.
"""

from collections.abc import Mapping

from corec.evaluation.curves import difference
from corec.evaluation.papers import zhao
from corec.evaluation.papers.study import Redone, Study, crosses, gains, table_of_margins
from corec.evaluation.report import crossed
from corec.evaluation.results import Results, curve
from corec.evaluation.tables import NONE, Table, extent, number

NAME = "zhao2017"


def redo(study: Study) -> Redone:
    """The virtual codec beside plain, repaired and otherwise wrapped JPEG files, and beside alternation."""
    descriptions = zhao.descriptions(NAME, 2)
    twins = {model.name: twin.name for model in descriptions if (twin := zhao.twin_of(model))}
    wanted = [*zhao.BESIDE, *(model.name for model in descriptions), *twins.values()]
    names, missing = study.known(wanted, gray=True)
    sets = zhao.measured(study, names)
    missing += [] if descriptions else [f"the virtual codec (no model of {NAME} for gray pictures)"]
    note = "The abstract: ahead of several methods of its time, above all at very low rates." + zhao.absent(
        study, missing
    )
    others = [name for name in zhao.BESIDE if name in names]
    claims = [
        table_of_margins(f"Zhao et al. 2017: {model.name} in PSNR", sets, model.name, others, note)
        for model in descriptions
    ]
    if not descriptions:
        claims.append(
            Table("Zhao et al. 2017: the virtual codec, not measured", ["set"], [[label] for label in sets], note)
        )
    claims += [table_of_turns(sets, model.name, twins.get(model.name)) for model in descriptions]
    return zhao.redone(sets, claims)


def table_of_turns(sets: Mapping[str, Results], virtual: str, turns: str | None) -> Table:
    """A model against its twin: the same networks, trained as long, without a virtual codec."""
    title = f"Virtual codec against alternation: {virtual}"
    if turns is None:
        note = f"Not measured: no model of a recipe that ends in {zhao.ALTERNATING} and else has the name of its own."
        return Table(title, ["set"], [[label] for label in sets], note)
    rows = []
    for label, results in sets.items():
        by_target = {at.name: gain for at, gain in gains(results, virtual, turns)}
        cells = [number(by_target[at.name], sign=True) if at.name in by_target else NONE for at in zhao.TARGETS]
        d = difference(curve(results, turns), curve(results, virtual))
        cells += [f"{number(d.rate, 1, sign=True)} %", extent(d.qualities)] if d else [NONE, NONE]
        rows.append([label, *cells, crossed(crosses(results, virtual, turns))])
    note = f"PSNR over {turns}, in dB, by rate; BD-rate against it."
    return Table(title, ["set", *(at.name for at in zhao.TARGETS), "BD-rate", "over dB", "crosses"], rows, note)
