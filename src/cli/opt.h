/* SPDX-License-Identifier: Apache-2.0 */
/* opt.h: a command is a table; the parser, --help, the man page, docs/cli.md and the shells'
 * completions all read it. Nothing about an option is written twice.
 *
 * A command's options are fields of one plain struct that the parser fills: a row names the field
 * by its offset. Rows stand in groups (the command's own, those of every command that computes,
 * those of every command that writes a model); a group's struct lies at an offset in the command's
 * struct. */
#ifndef LB_CLI_OPT_H
#define LB_CLI_OPT_H

#include "base/base.h"
#include "base/mem.h"

typedef enum lb_opt_kind {
    LB_OPT_FLAG,  /* bool */
    LB_OPT_STR,   /* const char *; NULL when not given and without default */
    LB_OPT_PATH,  /* const char * */
    LB_OPT_SIZE,  /* u64 bytes */
    LB_OPT_INT,   /* u64, between min and max */
    LB_OPT_FLOAT, /* double, finite */
    LB_OPT_ENUM,  /* u32: index into choices */
} lb_opt_kind;

/* What a repeatable STR or PATH fills. */
typedef struct lb_opt_list {
    const char **item;
    u32 n;
} lb_opt_list;

typedef struct lb_opt {
    const char *name; /* without the dashes */
    char short_name;  /* 0: none */
    lb_opt_kind kind;
    const char *arg;      /* "SIZE"; of an ENUM its choices: "hf|mlx|gguf|none" */
    const char *help;     /* what it does, with its unit; the default is added from `initial` */
    const char *initial;  /* value when not given, as a user would write it; NULL: zero */
    const char *alias_of; /* hidden: another name for that option of the same group */
    u64 min, max;         /* INT; max 0: no limit. SIZE: min */
    bool required, repeatable, hidden;
    size_t off;       /* offsetof the field in the group's struct */
    size_t given_off; /* of a bool that is set where the user has given it; 0: none */
} lb_opt;

typedef struct lb_opt_group {
    const char *title; /* "Options" */
    const lb_opt *opts;
    u32 n;
    size_t off; /* of the group's struct in the command's struct */
} lb_opt_group;

#define LB_OPT_GROUPS_MAX 8

typedef struct lb_cli lb_cli;

typedef struct lb_example {
    const char *text;    /* what it is for */
    const char *command; /* a command line as typed */
} lb_example;

typedef struct lb_command {
    const char *name;    /* "inspect"; of a command with a second word "lora fuse" */
    const char *summary; /* one sentence, ends with a full stop */
    const char *args;    /* "MODEL", "A B", "[COMMAND]" */
    const char *details; /* paragraphs after the options; may be NULL */
    lb_example examples[3];
    u32 n_args_min, n_args_max;
    const char *other; /* the command that shows the model that somebody names here by mistake;
                          NULL: none */
    bool hidden;
    lb_opt_group group[LB_OPT_GROUPS_MAX];
    size_t size_bytes; /* of the options struct */
    /* opts: the filled struct. Results go to cli->out, written to stdout at the end. */
    lb_status (*run)(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err);
} lb_command;

#define LB_GROUP(t, table, offset) \
    { .title = (t), .opts = (table), .n = LB_LEN(table), .off = (offset) }

typedef struct lb_parsed {
    void *opts; /* the command's struct, in the arena */
    const char **args;
    u32 n_args;
    bool help; /* --help or -h was met: nothing else was checked */
} lb_parsed;

/* argv: what follows the command's name. LB_E_USAGE with the nearest option's name. */
lb_status lb_opt_parse(const lb_command *c, char **argv, int argc, lb_arena *arena, lb_parsed *out,
                       lb_err *err);

/* One option of the command by its long name, into a struct that has been filled before; of a
 * repeatable one, one more. text NULL: as if it were not given. Texts are kept as they are. */
lb_status lb_opt_set(const lb_command *c, const char *name, const char *text, void *opts,
                     lb_arena *arena, lb_err *err);
/* The row of a long name, or of what it is an alias of; NULL: none. */
const lb_opt *lb_opt_find(const lb_command *c, const char *name);

/* Entry i of "hf|mlx|gguf"; empty beyond the last. */
lb_str lb_choice(const char *choices, u32 i);

/* ---- what is generated from the tables: help.c, complete.c ---- */

void lb_help_command(lb_buf *out, const lb_command *c); /* lbrx COMMAND --help */
void lb_help_all(lb_buf *out, const lb_command *const *commands, u32 n);
/* The commands of two words whose first one this is; false: there are none. */
bool lb_help_verbs(lb_buf *out, const lb_command *const *commands, u32 n, const char *word);
void lb_help_markdown(lb_buf *out, const lb_command *const *commands, u32 n);
void lb_help_man(lb_buf *out, const lb_command *const *commands, u32 n);
void lb_complete_bash(lb_buf *out, const lb_command *const *commands, u32 n);
void lb_complete_zsh(lb_buf *out, const lb_command *const *commands, u32 n);
void lb_complete_fish(lb_buf *out, const lb_command *const *commands, u32 n);

#endif
