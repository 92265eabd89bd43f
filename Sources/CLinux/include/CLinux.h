// What LinuxIO needs of Linux and Swift cannot see or say: GNU types (mmsghdr, cpu_set_t), control message macros and
// variadic calls. Every function that can fail returns a negative errno, so that errno itself never crosses the
// language border, where another call could overwrite it.
#ifndef TURNPIKE_CLINUX_H
#define TURNPIKE_CLINUX_H

#include "turnpike_address.h"
#include "turnpike_batch.h"
#include "turnpike_socket.h"
#include "turnpike_stream.h"
#include "turnpike_system.h"

#endif
