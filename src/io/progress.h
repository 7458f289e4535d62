/* SPDX-License-Identifier: Apache-2.0 */
/* progress.h: how far an operation is, on stderr: a bar, plain lines or JSON lines.
 *
 * Nothing appears in the first second. No colours and no escape sequences: NO_COLOR has nothing to
 * turn off, and a dumb terminal shows the same bar. */
#ifndef LB_IO_PROGRESS_H
#define LB_IO_PROGRESS_H

#include "base/base.h"
#include "base/thread.h"

/* What --progress says. */
enum { LB_PROGRESS_AUTO, LB_PROGRESS_BAR, LB_PROGRESS_PLAIN, LB_PROGRESS_JSON, LB_PROGRESS_NONE };

typedef struct lb_progress {
    lb_mutex lock;
    u32 mode; /* never AUTO after begin */
    int fd;
    const char *what;
    const char *unit; /* of what is counted; NULL: bytes. Set after begin, outlives p: "tokens" */
    u64 (*now_us)(void);
    u64 begin_us;
    u64 done, total; /* as last said */
    u64 first_done;  /* what an earlier run had done */
    bool started;    /* first_done is known */
    u64 shown_us;    /* when something was shown last; 0: never */
    u64 rate_us, rate_done;
    double rate;     /* bytes a second, smoothed; 0: not known yet */
    u32 bar_columns; /* of the bar that stands on the line */
} lb_progress;

/* mode: the option's value; AUTO is a bar on a terminal, else plain lines. what: "convert", a word
 * that outlives p. */
void lb_progress_begin(lb_progress *p, u32 mode, const char *what);
/* The same on another descriptor with another clock (microseconds, not 0): for tests. */
void lb_progress_begin_on(lb_progress *p, u32 mode, const char *what, int fd, u64 (*now_us)(void));
/* From any thread; total may grow, 0: not known. Cheap when it is too early to show anything. */
void lb_progress_update(void *progress, u64 done_bytes, u64 total_bytes);
/* Something to know while it runs ("the hub asks to wait 30 s"); plain ASCII. From any thread. */
void lb_progress_note(void *progress, const char *text);
/* Takes the bar away; closes lines with the sum, if any were shown. Call once, after the threads.
 */
void lb_progress_end(lb_progress *p);

#endif
