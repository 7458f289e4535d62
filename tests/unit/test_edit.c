/* SPDX-License-Identifier: Apache-2.0 */
/* test_edit.c: the line editor: what keys do to a text, and that the screen of a terminal shows it,
 * whatever was typed; words that are broken on the way to a terminal; thoughts that are taken
 * apart.
 */
#include "cli/edit.h"
#include "cli/thought.h"
#include "cli/wrap.h"
#include "test.h"
#include "text/bytelevel.h"
#include "vt.h"

static lb_err err;
static const char *const words[] = {"/help", "/regen", "/reset", "/undo", NULL};
static const lb_edit_opts opts = {.prompt = "> ", .more = ". ", .words = words};

static lb_edit_event type(lb_edit *e, const char *keys, size_t n) {
    lb_edit_event event = LB_EDIT_MORE;
    for (size_t at = 0, used; at < n && event == LB_EDIT_MORE; at += used)
        event = lb_edit_keys(e, (const u8 *)keys + at, n - at, &used);
    return event;
}

#define C(x) ((char)((x)&0x1f))
#define LEFT "\x1b[D"
#define UP "\x1b[A"
#define DOWN "\x1b[B"
#define E_ACUTE "\xc3\xa9"
#define SUN "\xe6\x97\xa5"
#define FAMILY "\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9" /* two and a joiner: one cluster */

static const struct {
    const char *keys, *text;
    lb_edit_event event;
} cases[] = {
    {"abc\r", "abc", LB_EDIT_ENTER},
    {"abc" LEFT LEFT "x\r", "axbc", LB_EDIT_ENTER},
    {"ab\x7f\x7f\x7f\x7f"
     "c\r",
     "c", LB_EDIT_ENTER},
    {"one two"
     "\x01"
     "X\x05Y",
     "Xone twoY", LB_EDIT_MORE},
    {"one two\x17", "one ", LB_EDIT_MORE},
    {"one  two  \x17Z", "one  Z", LB_EDIT_MORE},
    {"one two\x15x", "x", LB_EDIT_MORE},
    {"one two" LEFT LEFT LEFT "\x0b", "one ", LB_EDIT_MORE},
    {"one two\x17\x19\x19", "one twotwo", LB_EDIT_MORE},
    {"one two three\x1b"
     "b\x1b"
     "bX",
     "one Xtwo three", LB_EDIT_MORE},
    {"one two\x01\x1b"
     "d",
     " two", LB_EDIT_MORE},
    {"one two\x01\x1b"
     "fX",
     "oneX two", LB_EDIT_MORE},
    {"one two\x1b[1;5DX\x1b[1;5CY", "one XtwoY", LB_EDIT_MORE},
    {"a.b-c\x1b\x7fX", "a.b-X", LB_EDIT_MORE},
    {"ab\x14", "ba", LB_EDIT_MORE},
    {"abc" LEFT "\x14X", "acbX", LB_EDIT_MORE},
    {"abc\x1b[HX\x1b[FY\x1b[1~Z\x1b[4~W\x1bOHV\x1bOFU", "VZXabcYWU", LB_EDIT_MORE},
    {"abc\x01\x1b[3~\x04", "c", LB_EDIT_MORE},
    {"\x04", "", LB_EDIT_END},
    {"a\x04", "a", LB_EDIT_MORE},
    {"a\x03", "a", LB_EDIT_INTERRUPT},
    {"a\x1a", "a", LB_EDIT_STOP},
    {"a\x0c", "a", LB_EDIT_CLEAR},
    {"a\\\rb\r", "a\nb", LB_EDIT_ENTER},
    {"a\\" LEFT "\r", "a\\", LB_EDIT_ENTER},
    {"a\x1b\rb\r", "a\nb", LB_EDIT_ENTER},
    {"one\x1b\rtwo\x01X\x0b\x15Y", "one\nY", LB_EDIT_MORE},
    {"one\x1b\rtwo" UP "\x0bX", "oneXtwo", LB_EDIT_MORE},
    {"one\x1b\rtwo" UP "X" DOWN "Y", "oneX\ntwoY", LB_EDIT_MORE},
    /* Up through a short line keeps the column. */
    {"long line\x1b\rab\x1b\rlong too" UP UP "X", "long linXe\nab\nlong too", LB_EDIT_MORE},
    /* Characters as wholes. */
    {E_ACUTE SUN "\x7fx", E_ACUTE "x", LB_EDIT_MORE},
    {"e\xcc\x81z" LEFT "\x7f", "z", LB_EDIT_MORE},
    {FAMILY LEFT "x", "x" FAMILY, LB_EDIT_MORE},
    {FAMILY "\x7f", "", LB_EDIT_MORE},
    {"\xc3"
     "a\xff\xe6\x97"
     "b",
     "\xef\xbf\xbd"
     "a\xef\xbf\xbd\xef\xbf\xbd"
     "b",
     LB_EDIT_MORE},
    {"\xc2\x9b"
     "31ma",
     "31ma", LB_EDIT_MORE},
    /* Pastes. */
    {"\x1b[200~a\rb\r\nc\nd\x1b[201~e\r", "a\nb\nc\nde", LB_EDIT_ENTER},
    {"\x1b[200~/h\t\x03\x1b[Ax\x04\x1b[201~\x7f", "/h\t", LB_EDIT_MORE},
    /* Unknown keys do nothing. */
    {"a\x1b[15~\x1b[1;2P\x1bOP\x1b[?1;2c\x1bz\x1b\x1b[Db", "ba", LB_EDIT_MORE},
    {"a\tb", "ab", LB_EDIT_MORE},
    {"/h\t", "/help ", LB_EDIT_MORE},
    {"/re\t", "/re", LB_EDIT_MORE},
    {"/reg\tx", "/regen x", LB_EDIT_MORE},
    {"/x\t", "/x", LB_EDIT_MORE},
};

LB_TEST(keys) {
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        lb_edit *e;
        const char *want = cases[i].text;
        for (u32 split = 0; split < 2; split++) { /* all at once, and byte by byte */
            CHECK_OK(lb_edit_new(&e, &opts, &err));
            lb_edit_begin(e);
            lb_edit_event event = LB_EDIT_MORE;
            size_t n = strlen(cases[i].keys);
            for (size_t k = 0; split && k < n && event == LB_EDIT_MORE; k++)
                event = type(e, cases[i].keys + k, 1);
            if (!split)
                event = type(e, cases[i].keys, n);
            if (event != cases[i].event || !lb_str_eq_c(lb_edit_text(e), want))
                lb_test_fail(__FILE__, __LINE__, "case %u: '%.*s' and %d, not '%s'", i,
                             LB_FMT(lb_edit_text(e)), event, want);
            lb_edit_free(&e);
        }
    }
}

LB_TEST(old_texts_come_back) {
    lb_edit *e;
    CHECK_OK(lb_edit_new(&e, &opts, &err));
    for (u32 i = 0; i < LB_EDIT_HISTORY_MAX + 5; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "t%u", i);
        lb_edit_remember(e, lb_str_c(text));
        lb_edit_remember(e, lb_str_c(text));
    }
    lb_edit_begin(e);
    (void)type(e, "new" UP, 6);
    CHECK(lb_str_eq_c(lb_edit_text(e), "t1004"));
    (void)type(e, "\x10", 1);
    CHECK(lb_str_eq_c(lb_edit_text(e), "t1003"));
    (void)type(e, DOWN DOWN DOWN, 9);
    CHECK(lb_str_eq_c(lb_edit_text(e), "new"));
    for (u32 i = 0; i < 2000; i++)
        (void)type(e, UP, 3);
    CHECK(lb_str_eq_c(lb_edit_text(e), "t5"));
    (void)type(e, "x\r", 2);
    CHECK(lb_str_eq_c(lb_edit_text(e), "t5x"));
    lb_edit_free(&e);
}

/* ---- the screen ---- */

#define ROWS 8u

/* What the rows should hold, and where the cursor is: the plain way. at: in clusters of one
 * character each. */
typedef struct picture {
    u32 cell[256][VT_COLUMNS_MAX];
    u32 n, row, column;
} picture;

static void make_picture(lb_str text, size_t at, u32 columns, picture *p) {
    u32 c = 2;
    memset(p, 0, sizeof *p);
    p->cell[0][0] = '>';
    p->cell[0][1] = ' ';
    for (size_t i = 0;;) {
        size_t here = i;
        bool end = i >= text.len;
        u32 cp = end ? '\n' : lb_utf8_next(text, &i);
        u32 width = cp >= 0x3000 ? 2 : 1;
        if (cp == '\n' ? c >= columns && here == at : c + width > columns) {
            p->n++;
            c = 0;
        }
        if (here == at) {
            p->row = p->n;
            p->column = c;
        }
        if (end)
            break;
        if (cp == '\n') {
            p->n++;
            p->cell[p->n][0] = '.';
            p->cell[p->n][1] = ' ';
            c = 2;
            continue;
        }
        p->cell[p->n][c] = cp;
        if (width == 2)
            p->cell[p->n][c + 1] = 1;
        c += width;
    }
    p->n++;
}

static bool is_shown(const vt *t, const picture *p, u32 first_row) {
    /* The rows around the cursor's: as many as there is room for. */
    u32 top = first_row, from = p->row;
    if (p->n <= t->rows) {
        from = 0;
    } else {
        top = 0;
        from = p->row - t->row;
    }
    if (p->n <= t->rows && t->row < p->row)
        return false;
    if (p->n <= t->rows)
        top = t->row - p->row;
    for (u32 r = 0; top + r < t->rows && from + r < p->n; r++)
        for (u32 c = 0; c < t->columns; c++) {
            u32 have = t->cell[top + r][c], want = p->cell[from + r][c];
            if ((have ? have : ' ') != (want ? want : ' '))
                return false;
        }
    return t->column == p->column && !t->n_unknown;
}

LB_TEST(the_screen_shows_the_text) {
    static const char *const keys[] = {"a",
                                       "bc ",
                                       "word",
                                       SUN,
                                       E_ACUTE,
                                       SUN SUN SUN,
                                       "\x1b\r",
                                       "\x7f",
                                       "\x01",
                                       "\x05",
                                       UP,
                                       DOWN,
                                       LEFT,
                                       LEFT,
                                       "\x1b[C",
                                       "\x17",
                                       "\x1b"
                                       "b",
                                       "\x1b"
                                       "f",
                                       "\x0b",
                                       "\x19",
                                       "\x15",
                                       "\x14",
                                       "\x04",
                                       "x\\\r",
                                       "\x1b[200~p\rq\rr\x1b[201~",
                                       "a line that is longer than the others by far "};
    static picture p;
    for (u32 round = 0; round < 60; round++) {
        const u32 columns = 12 + (u32)lb_test_rand_below(40);
        lb_edit *e;
        vt t;
        lb_buf out = {0};
        vt_begin(&t, ROWS, columns);
        vt_put(&t, "before\r\n", 8);
        CHECK_OK(lb_edit_new(&e, &opts, &err));
        lb_edit_begin(e);
        lb_edit_resize(e, ROWS, columns);
        lb_edit_draw(e, &out);
        for (u32 i = 0; i < 120; i++) {
            const char *k = keys[lb_test_rand_below(LB_LEN(keys))];
            if (lb_edit_text(e).len == 0 && *k == '\x04')
                continue;
            (void)type(e, k, strlen(k));
            if (lb_edit_text(e).len > 600)
                lb_edit_set(e, LB_STR("again"));
            lb_edit_draw(e, &out);
            vt_put(&t, out.ptr, out.len);
            lb_buf_reset(&out);
            /* The place of the cursor in the text, by typing there. */
            size_t at = 0;
            lb_buf marked = {0};
            lb_buf_put_str(&marked, lb_edit_text(e));
            (void)type(e, "#", 1);
            (void)lb_str_find(lb_edit_text(e), LB_STR("#"), &at);
            (void)type(e, "\x7f", 1);
            make_picture(lb_buf_str(&marked), at, columns, &p);
            if (!is_shown(&t, &p, 1)) {
                lb_buf screen = {0};
                vt_text(&t, &screen);
                lb_test_fail(__FILE__, __LINE__,
                             "round %u, key %u, %u columns: cursor %u %u, not %u %u:\n%.*s", round,
                             i, columns, t.row, t.column, p.row, p.column,
                             LB_FMT(lb_buf_str(&screen)));
                lb_buf_deinit(&screen);
                lb_buf_deinit(&marked);
                break;
            }
            lb_buf_deinit(&marked);
        }
        lb_edit_leave(e, &out);
        lb_buf_deinit(&out);
        lb_edit_free(&e);
    }
}

LB_TEST(what_is_typed_is_bounded) {
    lb_edit *e;
    static char many[LB_EDIT_TEXT_MAX / 2];
    lb_buf out = {0};
    memset(many, 'x', sizeof many);
    CHECK_OK(lb_edit_new(&e, &opts, &err));
    lb_edit_begin(e);
    (void)type(e, "\x1b[200~", 6);
    for (int i = 0; i < 4; i++)
        (void)type(e, many, sizeof many);
    (void)type(e, "\x1b[201~", 6);
    CHECK(lb_edit_text(e).len == LB_EDIT_TEXT_MAX);
    lb_edit_draw(e, &out);
    CHECK(out.len < 24 * 90 && memchr(out.ptr, '\a', out.len));
    CHECK_OK(lb_edit_status(e, &err));
    lb_buf_deinit(&out);
    lb_edit_free(&e);
}

/* ---- words that are broken ---- */

LB_TEST(words_are_broken_between_rows) {
    static const char text[] =
        "The Rhine is a river; its source is in Switzerland.\n\n  - a list with an item that is "
        "long\n" SUN SUN SUN SUN SUN SUN SUN SUN SUN SUN SUN SUN
        " a_word_that_is_much_longer_than_any_row_of_the_screen_is end\tE" E_ACUTE "\x1b[31m\x07 x";
    for (u32 columns = 10; columns < 60; columns++)
        for (u32 piece = 1; piece < 9; piece += 3) {
            vt t;
            lb_wrap w = {0};
            lb_buf out = {0}, screen = {0}, flat = {0}, want = {0};
            vt_begin(&t, 60, columns);
            lb_wrap_begin(&w, columns, 0);
            for (size_t i = 0; i < sizeof text - 1; i += piece) {
                lb_buf_reset(&out);
                lb_wrap_put(&w, lb_str_sub(lb_str_c(text), i, i + piece), &out);
                for (size_t k = 0; k < out.len; k++) { /* the terminal's own: \n is \r\n */
                    if (out.ptr[k] == '\n')
                        vt_put(&t, "\r", 1);
                    vt_put(&t, out.ptr + k, 1);
                }
            }
            vt_text(&t, &screen);
            /* Nothing is lost but blanks, and no word that fits a row is cut. */
            for (size_t i = 0; i < screen.len; i++)
                if (screen.ptr[i] > ' ')
                    lb_buf_put_u8(&flat, screen.ptr[i]);
            for (size_t i = 0; i < sizeof text - 1; i++)
                if ((u8)text[i] > ' ')
                    lb_buf_put_u8(&want, (u8)text[i]);
            CHECK(lb_str_eq(lb_buf_str(&flat), lb_buf_str(&want)));
            size_t pos;
            if (columns > 15)
                CHECK(lb_str_find(lb_buf_str(&screen), LB_STR("Switzerland."), &pos));
            CHECK(!t.n_unknown);
            lb_wrap_deinit(&w);
            lb_buf_deinit(&out);
            lb_buf_deinit(&screen);
            lb_buf_deinit(&flat);
            lb_buf_deinit(&want);
        }
}

/* ---- thoughts ---- */

static const struct {
    const char *prompt, *text, *thought, *said;
    bool any;
} answers[] = {
    {"", "Hello <think>x</think>", "", "Hello <think>x</think>", false},
    {"", "<think>a b</think>\n\nHello", "a b", "Hello", true},
    {"", "\n<think>\na\n</think>c", "a\n", "c", true},
    {"...<think>\n", "a</think> b</think>", "a", "b</think>", true},
    {"...<think>", "never ends </thin", "never ends </thin", "", true},
    {"<think>\n\n</think>\n\n", "Hello", "", "Hello", false},
    {"", "<thin", "", "<thin", false},
    {"", "  <b>x", "", "  <b>x", false},
    {"", "<seed:think>a</think></seed:think>b", "a</think>", "b", true},
    {"", "[THINK]a[/THINK]b", "a", "b", true},
    {"", "", "", "", false},
    {"", "  ", "", "  ", false},
    {"", "<think></think>", "", "", true},
    {"", "<|channel>thought\nhm<channel|>Hello", "hm", "Hello", true},
    {"",
     "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello",
     "hm", "Hello", true},
    {"", "<|channel|>final<|message|>Hello", "", "Hello", false},
    {"", "<|START_THINKING|>hm<|END_THINKING|>\n<|START_RESPONSE|>Hello", "hm", "Hello", true},
    {"<|START_THINKING|>", "hm<|END_THINKING|><|START_RESPONSE|>Hello", "hm", "Hello", true},
    {"", "<|START_RESPONSE|> Hello", "", " Hello", false},
    {"", "<|START_RESP", "", "<|START_RESP", false},
};

typedef struct seen {
    lb_buf thought, said;
} seen;

static lb_status see(void *user, bool thinking, lb_str piece, lb_err *e) {
    seen *s = user;
    (void)e;
    lb_buf_put_str(thinking ? &s->thought : &s->said, piece);
    return LB_OK;
}

LB_TEST(thoughts_are_taken_apart) {
    for (u32 i = 0; i < LB_LEN(answers); i++)
        for (size_t piece = 1; piece < 40; piece++) {
            lb_thought t = {0};
            seen s = {{0}, {0}};
            lb_str text = lb_str_c(answers[i].text);
            lb_thought_begin(&t, lb_str_c(answers[i].prompt));
            for (size_t at = 0; at < text.len; at += piece)
                CHECK_OK(
                    lb_thought_put(&t, lb_str_sub(text, at, at + piece), false, see, &s, &err));
            CHECK_OK(lb_thought_put(&t, LB_STR_NONE, true, see, &s, &err));
            if (!lb_str_eq_c(lb_buf_str(&t.thought), answers[i].thought) ||
                !lb_str_eq_c(lb_buf_str(&t.said), answers[i].said) || t.any != answers[i].any)
                lb_test_fail(__FILE__, __LINE__, "case %u in pieces of %zu: '%.*s' '%.*s'", i,
                             piece, LB_FMT(lb_buf_str(&t.thought)), LB_FMT(lb_buf_str(&t.said)));
            CHECK(lb_str_eq(lb_buf_str(&s.said), lb_buf_str(&t.said)));
            CHECK(lb_str_eq(lb_buf_str(&s.thought), lb_buf_str(&t.thought)));
            lb_buf_deinit(&s.thought);
            lb_buf_deinit(&s.said);
            lb_thought_deinit(&t);
        }
}

LB_TEST_MAIN("fast")
