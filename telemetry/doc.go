// Package telemetry is what an exchange leaves behind: its line in the access log and its share of
// the metrics. It is a leaf: proxy, backend, gateway and certs call it, it calls none of them.
//
// The way of an exchange through it:
//
//  1. The meters are looked up, each of which holds its own atomics: Instruments.Server(backend, server)
//     and Instruments.Listener(name) at configuration time, Instruments.Exchange(listener, route) at the
//     first exchange, as there may be very many pairs.
//  2. When the route is known: ExchangeMeter.Start.
//  3. While it runs the proxy fills a Record, which lives and is reused with its connection.
//  4. At the one exit of every exchange: ExchangeMeter.End(&record), then AccessLog.Log(&record).
//     Neither allocates, and neither keeps anything of the record.
//  5. A scrape reads the atomics (Instruments is a prometheus.Collector); the log's task (Spool.Run)
//     writes what has gathered.
//
// Meters are counted by reference: what a new generation takes before the old one releases goes on
// counting. What nothing holds any more is still exported, up to a number, and goes on counting when
// it is taken again.
package telemetry
