/// A size for people, in binary units, one decimal where it is not whole: `10 GiB`, `1.5 MiB`, `512 B`.
package func sizeText(_ bytes: Int64) -> String {
  var unit = "B"
  var scale: Int64 = 1
  for (next, size) in [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("PiB", 50), ("EiB", 60)] {
    if bytes < 1 << size { break }
    (unit, scale) = (next, 1 << size)
  }
  let (whole, rest) = bytes.quotientAndRemainder(dividingBy: scale)
  // Rounded down: a size is not shown larger than it is.
  let tenths = scale.dividingFullWidth(rest.multipliedFullWidth(by: 10)).quotient
  return tenths > 0 ? "\(whole).\(tenths) \(unit)" : "\(whole) \(unit)"
}

/// How long something has been so, in its two largest units: `3h 12min`, `5s`.
func durationText(_ seconds: Double) -> String {
  let total = Int64(min(max(seconds.isNaN ? 0 : seconds, 0), 1e12))
  if total == 0 { return "now" }
  let (days, hours, minutes) = (total / 86400, total / 3600 % 24, total / 60 % 60)
  let parts = [(days, "d"), (hours, "h"), (minutes, "min"), (total % 60, "s")].drop { $0.0 == 0 }.prefix(2)
  return parts.filter { $0.0 > 0 }.map { "\($0)\($1)" }.joined(separator: " ")
}

/// A short time in its best unit: `12 µs`, `3.4 ms`, `2.5 s`.
func shortTimeText(_ seconds: Double) -> String {
  if seconds.isNaN || seconds < 0 { return "0 s" }
  if seconds >= 120 { return durationText(seconds) }
  let (value, unit) = seconds < 1e-3 ? (seconds * 1e6, "µs") : seconds < 1 ? (seconds * 1e3, "ms") : (seconds, "s")
  let tenths = Int64((value * 10).rounded())
  return value >= 10 || tenths % 10 == 0 ? "\(Int64(value.rounded())) \(unit)" : "\(tenths / 10).\(tenths % 10) \(unit)"
}

/// How long until something happens: `in 5s`, `now`.
func inText(_ seconds: Double) -> String {
  seconds < 1 ? "now" : "in " + durationText(seconds)
}
