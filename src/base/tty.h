/* SPDX-License-Identifier: Apache-2.0 */
/* tty.h: the terminal of a program that edits lines on it itself: modes, size, keys.
 *
 * One at a time in a process, and one thread. However the process leaves (closed, ended by a
 * signal, failed, stopped by ctrl-Z for a while), the terminal is as it was found. */
#ifndef LB_BASE_TTY_H
#define LB_BASE_TTY_H

#include "base/base.h"

typedef enum lb_tty_mode {
    LB_TTY_AS_FOUND,
    LB_TTY_EDIT, /* every key is a byte to read, nothing is echoed; pastes are marked */
    LB_TTY_BUSY  /* nothing is echoed, what is typed waits; ctrl-C and ctrl-Z are signals */
} lb_tty_mode;

/* in and out: the same terminal. LB_E_IO: they are none. While it is open ctrl-C, as a signal,
 * sets lb_interrupted() each time anew and never ends the process; SIGTERM sets it too, and a
 * second one ends. */
lb_status lb_tty_open(int in, int out, lb_err *err);
void lb_tty_close(void);
/* As found again, from a handler that ends the process. */
void lb_tty_restore(void);
void lb_tty_set(lb_tty_mode mode);
void lb_tty_size(u32 *rows, u32 *columns); /* 24 and 80 if unknown */
bool lb_tty_ended(void);                   /* SIGTERM came: leave */

typedef enum lb_tty_event {
    LB_TTY_KEYS,
    LB_TTY_CHANGED,     /* another size, or back from a stop: draw again */
    LB_TTY_INTERRUPTED, /* lb_interrupted() */
    LB_TTY_GONE         /* nothing can be read any more */
} lb_tty_event;

/* Waits. n: bytes read. */
lb_tty_event lb_tty_read(void *buf, size_t cap, size_t *n);
/* Stops the process as ctrl-Z does elsewhere; returns when it goes on. */
void lb_tty_stop(void);

#endif
