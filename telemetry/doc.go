// Package telemetry records exchanges, in the access log and in the metrics. It is a leaf: proxy,
// backend, gateway and certs call it, it calls none of them.
//
// The steps for an exchange:
//
//  1. The meters are looked up, each of which holds its own atomics: Instruments.Server(backend, server)
//     and Instruments.Listener(name) at configuration time, Instruments.Exchange(listener, route) at the
//     first exchange, because there may be very many pairs.
//  2. When the route is known: ExchangeMeter.Start.
//  3. While it runs the proxy fills a Record, which lives and is reused with its connection.
//  4. At the end of every exchange: ExchangeMeter.End(&record), then AccessLog.Log(&record).
//     Neither allocates, and neither keeps anything of the record.
//  5. A scrape reads the atomics (Instruments is a prometheus.Collector); the log's task (Spool.Run)
//     writes the buffered lines.
//
// Meters are reference-counted: one that a new generation takes before the old one releases it
// keeps its counters. Meters that nothing holds are still exported, up to a limit, and continue to
// count when they are taken again.
package telemetry
