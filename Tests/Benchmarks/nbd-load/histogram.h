// Latencies in nanoseconds, to one part in 512.
#pragma once
#include <stdint.h>

enum { HISTOGRAM_ROW = 1024, HISTOGRAM_BUCKETS = 56 * HISTOGRAM_ROW };

struct histogram {
  uint64_t count;
  // Row r counts values in units of 2^r; of each row after the first only the upper half is used.
  uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline void histogram_add(struct histogram *histogram, uint64_t value) {
  int row = value < HISTOGRAM_ROW ? 0 : 54 - __builtin_clzll(value);
  histogram->buckets[row * HISTOGRAM_ROW + (value >> row)]++;
  histogram->count++;
}

// The value that `share` (0…1) of all are not above.
static inline double histogram_quantile(const struct histogram *histogram, double share) {
  uint64_t left = share * histogram->count;
  for (int bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
    if (histogram->buckets[bucket] > left) return (double)((uint64_t)(bucket % HISTOGRAM_ROW) << bucket / HISTOGRAM_ROW);
    left -= histogram->buckets[bucket];
  }
  return 0;
}
