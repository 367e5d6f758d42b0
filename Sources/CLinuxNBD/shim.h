// Only what Swift can't import: function-like macros (_IO, NLMSG_*) and variadic functions. Header only.
#pragma once
#include <errno.h>
#include <linux/fs.h>
#include <linux/nbd.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static const unsigned long K_NBD_SET_SOCK = NBD_SET_SOCK;
