// A connected stream socket to one of `unix:PATH`, `tcp:HOST:PORT`, or `descriptor:N`, which is one already; ends the program where that fails.
#pragma once

int connect_to(const char *target);

// Whether it is the name of one.
int is_target(const char *word);

// Reads or writes all of it on a blocking socket; ends the program where that fails.
void read_all(int fd, void *bytes, unsigned long count);
void write_all(int fd, const void *bytes, unsigned long count);
