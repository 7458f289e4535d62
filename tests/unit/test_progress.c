/* SPDX-License-Identifier: Apache-2.0 */
/* test_progress.c: what is shown and when, into a pipe and on a terminal, by a clock of our own. */
#include "test.h"
#include "base/os.h"
#include "io/progress.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static u64 clock_us;

static u64 now(void) {
    return clock_us;
}

/* What has been written so far; the pipe or terminal is read without waiting. */
static char shown[65536];

static lb_str read_all(int fd) {
    size_t len = 0;
    ssize_t n;
    while ((n = read(fd, shown + len, sizeof shown - len)) > 0)
        len += (size_t)n;
    return (lb_str){shown, len};
}

static bool open_pipe(int fd[2]) {
    return pipe(fd) == 0 && fcntl(fd[0], F_SETFL, O_NONBLOCK) == 0;
}

static u64 count(lb_str s, const char *needle) {
    u64 n = 0;
    size_t pos;
    for (; lb_str_find(s, lb_str_c(needle), &pos); n++)
        s = lb_str_sub(s, pos + strlen(needle), s.len);
    return n;
}

/* 100 MB a second, a call each 10 ms from `from` to `to`. */
static void run(lb_progress *p, u64 from_ms, u64 to_ms, u64 total) {
    u64 begin = p->begin_us;
    for (u64 ms = from_ms; ms <= to_ms; ms += 10) {
        clock_us = begin + ms * 1000;
        lb_progress_update(p, ms * 100000, total);
    }
}

LB_TEST(short_runs_are_silent) {
    for (u32 mode = LB_PROGRESS_AUTO; mode <= LB_PROGRESS_NONE; mode++) {
        int fd[2];
        lb_progress p;
        CHECK(open_pipe(fd));
        clock_us = 5000000;
        lb_progress_begin_on(&p, mode, "convert", fd[1], now);
        run(&p, 0, 990, 99000000);
        lb_progress_end(&p);
        lb_progress_end(&p);
        CHECK_U64(read_all(fd[0]).len, 0);
        close(fd[0]);
        close(fd[1]);
    }
}

LB_TEST(other_units) {
    int fd[2];
    lb_progress p;
    CHECK(open_pipe(fd));
    clock_us = 1;
    lb_progress_begin_on(&p, LB_PROGRESS_PLAIN, "perplexity", fd[1], now);
    p.unit = "tokens";
    for (u64 ms = 0; ms <= 10000; ms += 1000) {
        clock_us = p.begin_us + ms * 1000;
        lb_progress_update(&p, ms / 10, ms < 10000 ? 2048 : 0);
    }
    lb_progress_end(&p);
    CHECK_STR(read_all(fd[0]), "perplexity: 500 of 2048 tokens, 100/s, 0:15 left\n"
                               "perplexity: 1000 tokens, 100/s\n"
                               "perplexity: 1000 tokens in 10.0 s, 100/s\n");
    close(fd[0]);
    close(fd[1]);
}

LB_TEST(plain_lines) {
    int fd[2];
    lb_progress p;
    CHECK(open_pipe(fd));
    clock_us = 1;
    lb_progress_begin_on(&p, LB_PROGRESS_AUTO, "convert", fd[1], now); /* a pipe: plain */
    run(&p, 0, 4990, 2000000000);
    CHECK_U64(read_all(fd[0]).len, 0);
    run(&p, 5000, 5000, 2000000000);
    CHECK_STR(read_all(fd[0]), "convert: 500 MB of 2.00 GB, 100 MB/s, 0:15 left\n");
    run(&p, 5010, 20000, 2000000000);
    CHECK_U64(count(read_all(fd[0]), "\n"), 3);
    lb_progress_end(&p);
    CHECK_STR(read_all(fd[0]), "convert: 2.00 GB in 20.0 s, 100 MB/s\n");
    close(fd[0]);
    close(fd[1]);
}

LB_TEST(json_lines) {
    int fd[2];
    lb_progress p;
    CHECK(open_pipe(fd));
    clock_us = 1;
    lb_progress_begin_on(&p, LB_PROGRESS_JSON, "merge", fd[1], now);
    run(&p, 0, 1000, 400000000);
    CHECK_STR(read_all(fd[0]), "{\"event\":\"progress\",\"what\":\"merge\",\"done\":100000000,"
                               "\"total\":400000000,\"rate\":100000000,\"eta\":3}\n");
    run(&p, 1010, 4000, 400000000);
    CHECK_U64(count(read_all(fd[0]), "\n"), 6);
    lb_progress_end(&p);
    CHECK(lb_str_starts(read_all(fd[0]), LB_STR("{\"event\":\"progress\",\"what\":\"merge\","
                                                "\"done\":400000000,\"total\":400000000,")));
    /* Nothing known: no rate, no total. */
    lb_progress_begin_on(&p, LB_PROGRESS_JSON, "merge", fd[1], now);
    clock_us += 2000000;
    lb_progress_update(&p, 0, 0);
    CHECK_STR(read_all(fd[0]), "{\"event\":\"progress\",\"what\":\"merge\",\"done\":0,\"total\":0,"
                               "\"rate\":0,\"eta\":null}\n");
    lb_progress_end(&p);
    close(fd[0]);
    close(fd[1]);
}

/* What an earlier run had done does not count as speed. */
LB_TEST(resumed) {
    int fd[2];
    lb_progress p;
    CHECK(open_pipe(fd));
    clock_us = 1;
    lb_progress_begin_on(&p, LB_PROGRESS_PLAIN, "convert", fd[1], now);
    for (u64 s = 0; s <= 10; s++) {
        clock_us = 1 + s * 1000000;
        lb_progress_update(&p, 900000000 + s * 1000000, 1000000000);
    }
    CHECK(lb_str_starts(read_all(fd[0]),
                        LB_STR("convert: 905 MB of 1.00 GB, 1.00 MB/s, 1:35 left\n")));
    lb_progress_end(&p);
    CHECK_STR(read_all(fd[0]), "convert: 910 MB in 10.0 s, 1.00 MB/s\n");
    close(fd[0]);
    close(fd[1]);
}

/* A change of speed is followed within seconds. */
LB_TEST(rate_follows) {
    lb_progress p;
    int fd[2];
    u64 done = 0;
    CHECK(open_pipe(fd));
    clock_us = 1;
    lb_progress_begin_on(&p, LB_PROGRESS_JSON, "x", fd[1], now);
    for (int i = 0; i < 400; i++) { /* 10 MB/s, then 100 MB/s */
        clock_us += 100000;
        done += i < 200 ? 1000000 : 10000000;
        lb_progress_update(&p, done, (u64)1 << 40);
        if (i == 199)
            CHECK(p.rate > 9.9e6 && p.rate < 10.1e6);
        (void)read_all(fd[0]);
    }
    CHECK(p.rate > 95e6 && p.rate < 100.1e6);
    lb_progress_end(&p);
    close(fd[0]);
    close(fd[1]);
}

/* A pseudo terminal of so many columns; fd[0] reads what is shown. */
static bool open_terminal(int fd[2], u16 columns) {
    struct termios t;
    struct winsize w = {.ws_row = 24, .ws_col = columns};
    fd[0] = posix_openpt(O_RDWR | O_NOCTTY);
    if (fd[0] < 0 || grantpt(fd[0]) != 0 || unlockpt(fd[0]) != 0)
        return false;
    fd[1] = open(ptsname(fd[0]), O_RDWR | O_NOCTTY);
    if (fd[1] < 0 || tcgetattr(fd[1], &t) != 0)
        return false;
    t.c_oflag &= ~(tcflag_t)OPOST;
    return tcsetattr(fd[1], TCSANOW, &t) == 0 && ioctl(fd[1], TIOCSWINSZ, &w) == 0 &&
           fcntl(fd[0], F_SETFL, O_NONBLOCK) == 0;
}

LB_TEST(bar) {
    int fd[2];
    lb_progress p;
    if (!open_terminal(fd, 100)) {
        lb_test_skip("no pseudo terminal");
        return;
    }
    clock_us = 1;
    lb_progress_begin_on(&p, LB_PROGRESS_AUTO, "convert", fd[1], now);
    CHECK_U64(p.mode, LB_PROGRESS_BAR);
    run(&p, 0, 1000, 4000000000);
    CHECK_STR(read_all(fd[0]), "\rconvert   2 % [#.......................................] "
                               "100 MB of 4.00 GB, 100 MB/s, 0:39 left");
    run(&p, 1010, 3000, 4000000000);
    CHECK_U64(count(read_all(fd[0]), "\r"), 20); /* ten a second */
    lb_str s = LB_STR_NONE;
    for (u64 ms = 3010; ms < 40000; ms += 1000) { /* a terminal holds 4 KiB that nobody has read */
        run(&p, ms, LB_MIN(ms + 990, (u64)40000), 4000000000);
        s = read_all(fd[0]);
        CHECK(!count(s, "\n") && !count(s, "\033"));
    }
    CHECK(count(s, "convert 100 % [########################################] 4.00 GB of 4.00 GB"));
    lb_progress_end(&p);
    s = read_all(fd[0]);
    CHECK(s.len > 60 && s.ptr[0] == '\r' && s.ptr[s.len - 1] == '\r');
    for (size_t i = 1; i + 1 < s.len; i++)
        CHECK(s.ptr[i] == ' ');
    close(fd[0]);
    close(fd[1]);
}

/* No draw is wider than the terminal less one; a shorter one covers the longer one before it. */
LB_TEST(bar_fits_any_width) {
    for (u16 columns = 1; columns <= 120; columns++) {
        int fd[2];
        lb_progress p;
        size_t pos;
        if (!open_terminal(fd, columns)) {
            lb_test_skip("no pseudo terminal");
            return;
        }
        clock_us = 1;
        lb_progress_begin_on(&p, LB_PROGRESS_BAR, "quantize", fd[1], now);
        size_t before = 0;
        for (u64 total = 1000000000; total <= 2000000000; total += 1000000000) {
            run(&p, total == 1000000000 ? 0 : 2010, total == 1000000000 ? 2000 : 4000, total);
            lb_str s = read_all(fd[0]);
            CHECK(s.len > 0);
            while (s.len) {
                CHECK(s.ptr[0] == '\r');
                s = lb_str_sub(s, 1, s.len);
                size_t len = lb_str_find(s, LB_STR("\r"), &pos) ? pos : s.len;
                CHECK(len <= (columns > 1 ? columns - 1u : 1u) && len >= before);
                lb_str text = lb_str_sub(s, 0, len);
                s = lb_str_sub(s, len, s.len);
                while (text.len && text.ptr[text.len - 1] == ' ')
                    text.len--;
                before = text.len;
            }
        }
        lb_progress_end(&p);
        close(fd[0]);
        close(fd[1]);
    }
}

static void *hammer(void *arg) {
    for (u64 i = 0; i < 20000; i++)
        lb_progress_update(arg, i, 20000);
    return NULL;
}

/* Whole lines from many threads, on the real clock. */
LB_TEST(threads) {
    int fd[2];
    lb_progress p;
    lb_thread t[4];
    lb_err err = {0};
    CHECK(open_pipe(fd));
    lb_progress_begin_on(&p, LB_PROGRESS_JSON, "x", fd[1], lb_os_now_us);
    p.begin_us -= 2000000; /* as if it ran for two seconds */
    for (int i = 0; i < 4; i++)
        CHECK_OK(lb_thread_start(&t[i], hammer, &p, &err));
    for (int i = 0; i < 4; i++)
        lb_thread_join(&t[i]);
    lb_progress_end(&p);
    lb_str s = read_all(fd[0]);
    CHECK(count(s, "\n") >= 2 && count(s, "\n") == count(s, "{\"event\":\"progress\","));
    close(fd[0]);
    close(fd[1]);
}

LB_TEST_MAIN("fast")
