"""A paper is written down once."""

from bench.engine.catalog import load


def test_each_paper_is_one_object():
    papers = {}
    for components in load().components.values():
        for component in components.values():
            if component.paper:
                papers.setdefault(component.paper.title.casefold(), set()).add(id(component.paper))
    assert len(papers) > 40
    assert not [title for title, objects in papers.items() if len(objects) > 1]
