import Gateway
import Testing

struct MetricsTextTests {
    @Test func samplesFollowTheirHelpAndType() {
        var page = MetricsText()
        page.counter("a_total", "What \"a\" is.", .max)
        page.begin("b", .gauge, "Two\nlines \\ of b.")
        page.sample(0.25, ["worker": "0"])
        page.sample(-1, ["x": "quote \" slash \\ line\n", "y": ""])
        #expect(
            page.text == """
                # HELP a_total What "a" is.
                # TYPE a_total counter
                a_total 18446744073709551615
                # HELP b Two\\nlines \\\\ of b.
                # TYPE b gauge
                b{worker="0"} 0.25
                b{x="quote \\" slash \\\\ line\\n",y=""} -1

                """
        )
    }

    @Test func theBucketsOfAHistogramAddUp() {
        var page = MetricsText()
        page.histogram("h_seconds", "How long.", bounds: [1, 10], counts: [2, 0, 3], sum: 1_000.5)
        #expect(
            page.text == """
                # HELP h_seconds How long.
                # TYPE h_seconds histogram
                h_seconds_bucket{le="1.0"} 2
                h_seconds_bucket{le="10.0"} 2
                h_seconds_bucket{le="+Inf"} 5
                h_seconds_sum 1000.5
                h_seconds_count 5

                """
        )
    }
}
