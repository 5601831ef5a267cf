from appliance.adapters.prometheus import Family, Histogram, exposition


def test_the_text_format():
    waits = Histogram((1.0, 5.0))
    for value in (0.5, 1.0, 5.0, 9.0):
        waits.observe(value)
    families = [
        Family("counter", "jobs", "Jobs.", ("outcome",), {("ok",): 2.0, ('a"b',): 0.0}),
        Family("gauge", "depth", "Depth.", (), {(): 3.0}),
        Family("histogram", "wait_seconds", "Waits.", (), {(): waits}),
    ]
    assert exposition(families).decode().splitlines() == [
        "# HELP jobs_total Jobs.",
        "# TYPE jobs_total counter",
        'jobs_total{outcome="ok"} 2.0',
        'jobs_total{outcome="a\\"b"} 0.0',
        "# HELP depth Depth.",
        "# TYPE depth gauge",
        "depth 3.0",
        "# HELP wait_seconds Waits.",
        "# TYPE wait_seconds histogram",
        'wait_seconds_bucket{le="1"} 2.0',
        'wait_seconds_bucket{le="5"} 3.0',
        'wait_seconds_bucket{le="+Inf"} 4.0',
        "wait_seconds_count 4.0",
        "wait_seconds_sum 15.5",
    ]


def test_a_copy_does_not_change():
    histogram = Histogram((1.0,))
    copy = histogram.copy()
    histogram.observe(0.5)
    assert copy.cumulative() == [("1", 0.0), ("+Inf", 0.0)]
