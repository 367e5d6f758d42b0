// The load: requests of one size on one connection in transmission, a fixed number of them under way.
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "histogram.h"

enum operation { OPERATION_READ, OPERATION_WRITE, OPERATION_MIXED };

struct load {
  enum operation operation;
  // In bytes; the export's size is a multiple of it.
  uint32_t request_size;
  int depth;
  int is_sequential;
  uint64_t export_size;
  // Nothing is measured before `warm_up`; requests are sent for `warm_up` and `duration`.
  double warm_up, duration;
  // Whose processor time is measured with it; 0: nobody's.
  pid_t watched;
};

struct outcome {
  uint64_t requests;
  double seconds;
  // Of the watched process, in the measured time.
  double processor_seconds;
  struct histogram latencies;
};

// Reads once, so that whoever is between is ready; then runs the load, waits for what is under way, and takes leave.
// Any error reply, and any reply to nothing, ends the program.
void run_load(int fd, const struct load *load, struct outcome *outcome);

// Writes the whole export once, so that a server with sparse memory has all of it.
void fill_export(int fd, uint64_t size);
