/* SPDX-License-Identifier: Apache-2.0 */
/* shims.h: what a program for macOS takes of libSystem, over Linux's C library. */
#ifndef LB_TESTS_MACHO_SHIMS_H
#define LB_TESTS_MACHO_SHIMS_H

#include <stddef.h>
#include <stdint.h>

/* The address for a name with its underscore; NULL: there is none. */
void *shim_find(const char *name);

#endif
