from benchmarks.exploration import lead


def test_the_lead_is_paired_by_seed_and_condition():
    def row(method, seed, coverage, condition="hub"):
        return {"method": method, "condition": condition, "seed": seed, "coverage": coverage, "coverage_end": 1.0}

    rows = [
        row("recognition-graph", 0, 0.5),
        row("rnd", 0, 0.25),
        row("rnd", 1, 0.1),  # nothing to compare it with
        {"method": "icm", "condition": "hub", "seed": 0, "error": "failed"},
        row("rnd", 0, 0.75, "chain"),
        row("recognition-graph", 0, 0.5, "chain"),
    ]
    found = {(each["condition"], each["method"]): each["coverage_ahead"] for each in lead(rows)}
    assert found == {("hub, graph ahead of", "rnd"): 0.25, ("chain, graph ahead of", "rnd"): -0.25}
