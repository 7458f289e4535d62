/* SPDX-License-Identifier: Apache-2.0 */
/* progress.c: a line on stderr, no more often than an eye (bar) or a log (plain lines) wants. */
#include "cli/progress.h"
#include "base/os.h"
#include "cli/text.h"
#include <stdio.h>

#define BAR_EVERY_US 100000u /* ten a second */
#define JSON_EVERY_US 500000u
#define PLAIN_EVERY_US 5000000u
#define STDERR_FD 2

void lb_progress_begin(lb_progress *p, u32 mode, const char *what) {
    memset(p, 0, sizeof *p);
    if (mode == LB_PROGRESS_AUTO)
        mode = lb_os_is_terminal(STDERR_FD) ? LB_PROGRESS_BAR : LB_PROGRESS_PLAIN;
    p->mode = mode;
    p->what = what;
    p->begin_us = p->shown_us = lb_os_now_us();
}

static u64 interval_us(u32 mode) {
    return mode == LB_PROGRESS_BAR    ? BAR_EVERY_US
           : mode == LB_PROGRESS_JSON ? JSON_EVERY_US
                                      : PLAIN_EVERY_US;
}

/* "1.2 GB of 2.7 GB, 830 MB/s, 0:02 left" */
static void put_numbers(char *out, size_t cap, u64 done, u64 total, u64 elapsed_us) {
    char a[LB_TEXT_BYTES], b[LB_TEXT_BYTES], c[LB_TEXT_BYTES];
    double rate = elapsed_us ? (double)done * 1e6 / (double)elapsed_us : 0;
    double left_s = rate > 0 && total > done ? (double)(total - done) / rate : 0;
    u64 s = left_s < 360000 ? (u64)(left_s + 0.5) : 360000; /* 100 hours are enough to say "long" */
    (void)snprintf(out, cap, "%s of %s, %s/s, %llu:%02llu left", lb_size_text(done, a),
                   lb_size_text(total, b), lb_size_text((u64)rate, c), (unsigned long long)(s / 60),
                   (unsigned long long)(s % 60));
}

static void show_bar(lb_progress *p, u64 done, u64 total, u64 elapsed_us) {
    char numbers[160], bar[64];
    u32 columns = lb_os_terminal_columns(STDERR_FD);
    put_numbers(numbers, sizeof numbers, done, total, elapsed_us);
    size_t used = strlen(p->what) + strlen(numbers) + 12;
    u32 width = columns > used + 8 ? (u32)LB_MIN(columns - used, sizeof bar - 1) : 0;
    u32 full = total ? (u32)((double)LB_MIN(done, total) / (double)total * width) : 0;
    memset(bar, '#', full);
    memset(bar + full, '.', width - full);
    bar[width] = 0;
    fprintf(stderr, "\r%s %3.0f %% %s %s\033[K", p->what,
            total ? 100.0 * (double)done / (double)total : 0.0, bar, numbers);
    p->shown = true;
}

void lb_progress_update(void *progress, u64 done_bytes, u64 total_bytes) {
    lb_progress *p = progress;
    u64 now;
    if (p->mode == LB_PROGRESS_NONE)
        return;
    now = lb_os_now_us();
    if (now - p->shown_us < interval_us(p->mode))
        return;
    p->shown_us = now;
    p->shown_done = done_bytes;
    if (p->mode == LB_PROGRESS_BAR) {
        show_bar(p, done_bytes, total_bytes, now - p->begin_us);
    } else if (p->mode == LB_PROGRESS_JSON) {
        fprintf(
            stderr,
            "{\"event\": \"progress\", \"what\": \"%s\", \"done_bytes\": %llu, \"total_bytes\": "
            "%llu, \"seconds\": %.3f}\n",
            p->what, (unsigned long long)done_bytes, (unsigned long long)total_bytes,
            (double)(now - p->begin_us) / 1e6);
    } else {
        char numbers[160];
        put_numbers(numbers, sizeof numbers, done_bytes, total_bytes, now - p->begin_us);
        fprintf(stderr, "%s: %s\n", p->what, numbers);
    }
}

void lb_progress_end(lb_progress *p) {
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}
