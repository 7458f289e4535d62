#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tokenize.sh: `lbrx tokenize` on folders with tokenizers of every kind, and on what is none. Ids and
# texts: tokenizers 0.23 (Tokenizer.from_file(...).encode, .decode).
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

# folder NAME: a model folder whose tokenizer.json is standard input.
folder() {
    mkdir -p "$W/$1"
    printf '\002\000\000\000\000\000\000\000{}' >"$W/$1/model.safetensors"
    echo '{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}' >"$W/$1/config.json"
    cat >"$W/$1/tokenizer.json"
}

# gives NAME WANT ARG...: standard output is WANT and a line end.
gives() {
    what_given=$1 want_text=$2
    shift 2
    ok "$what_given" "$LBRX" tokenize "$@" || return
    printf '%s\n' "$want_text" >"$W/want"
    if cmp -s "$W/want" "$W/out"; then pass; else fail "$what_given" "expected $want_text"; fi
}

# piped NAME INPUT WANT ARG...: the same with standard input (both are printf formats).
piped() {
    what_given=$1 in=$2 want_text=$3
    shift 3
    # shellcheck disable=SC2059
    printf "$want_text" >"$W/want"
    # shellcheck disable=SC2059
    printf "$in" | "$LBRX" tokenize "$@" >"$W/out" 2>"$W/err"
    if cmp -s "$W/want" "$W/out"; then pass; else fail "$what_given" "expected $want_text"; fi
}

added='"added_tokens":[{"id":0,"content":"<s>","special":true,"normalized":false,"lstrip":false,"rstrip":false,"single_word":false}]'
post='"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[0],"tokens":["<s>"]}}}'

# ---- SentencePiece-like BPE with byte fallback ----
bytes=$(awk 'BEGIN { for (i = 0; i < 256; i++) printf "\"<0x%02X>\":%d,", i, i + 10 }')
folder spm <<END
{$added,$post,"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},
"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
"model":{"type":"BPE","byte_fallback":true,"fuse_unk":true,"unk_token":"<s>","vocab":{"<s>":0,"▁":1,"a":2,"b":3,"▁a":4,"▁ab":5,$bytes"z":270},"merges":[["▁","a"],["▁a","b"]]}}
END
gives "words" "[0, 5, 5, 3]" "$W/spm" "ab abb"
gives "without BOS" "[5]" "$W/spm" "ab" --no-bos
gives "a special token in the text" "[0, 5, 0, 4]" "$W/spm" "ab<s>a"
gives "as text" "[5, 70, 125, 72, 2]" "$W/spm" "ab<s>a" --no-special --no-bos
gives "bytes" "[1, 205, 179]" "$W/spm" "é" --no-bos
gives "back" "<s> ab abb" "$W/spm" --detokenize "[0, 5, 5, 3]"
gives "numbers with blanks" "ab" "$W/spm" --detokenize "5"
gives "without special tokens" "ab é" "$W/spm" --detokenize "[0,5,1,205,179]" --no-special
gives "half a character" "ab�" "$W/spm" --detokenize "5 205"
gives "an empty text" "[0]" "$W/spm" ""
piped "lines" '"ab"\n"a\\u00e9"\n""\n' '[0, 5]\n[0, 4, 205, 179]\n[0]\n' "$W/spm" --jsonl
piped "lines back" '[5]\n[4, 205, 179]\n[]\n' '"ab"\n"aé"\n""\n' "$W/spm" --jsonl --detokenize
piped "no line end at the end" '"ab"' '[0, 5]\n' "$W/spm" --jsonl
piped "standard input" 'ab ab' '[0, 5, 5]\n' "$W/spm"
piped "not UTF-8" 'ab\377' '[0, 5, 249, 201, 199]\n' "$W/spm"
piped "half a character at the end" 'ab\303' '[0, 5, 249, 201, 199]\n' "$W/spm"

# ---- tokenizer_config.json decides what stands around a text ----
cp -r "$W/spm" "$W/config"
echo '{"add_bos_token": false, "bos_token": "<s>", "add_eos_token": true, "eos_token": "z"}' >"$W/config/tokenizer_config.json"
gives "add_bos_token false, add_eos_token true" "[5, 270]" "$W/config" "ab"

# ---- Unigram ----
folder unigram <<END
{$added,"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},"decoder":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},
"model":{"type":"Unigram","unk_id":0,"byte_fallback":false,"vocab":[["<s>",0.0],["▁",-3.0],["a",-2.0],["b",-2.5],["ab",-4.0],["▁ab",-6.0],["abb",-9.0]]}}
END
gives "best paths" "[5, 5, 3]" "$W/unigram" "ab abb"
gives "unknown characters are one" "[1, 0, 2]" "$W/unigram" "xyza"
gives "Unigram back" "ab ab" "$W/unigram" --detokenize "5 5"

# ---- WordPiece ----
folder wordpiece <<END
{"added_tokens":[],"normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},"pre_tokenizer":{"type":"BertPreTokenizer"},"decoder":{"type":"WordPiece","prefix":"##","cleanup":true},
"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":5,"vocab":{"[UNK]":0,"ab":1,"##a":2,"##b":3,"a":4,",":5,"中":6,"e":7}}}
END
gives "parts of words" "[1, 2, 3, 5, 6, 7]" "$W/wordpiece" "ABab, 中 É"
gives "a word too long" "[0, 4]" "$W/wordpiece" "ababab a"
gives "no parts" "[0]" "$W/wordpiece" "abz"
gives "WordPiece back" "abab, a" "$W/wordpiece" --detokenize "1 2 3 5 4"

# ---- WordLevel ----
folder wordlevel <<END
{"added_tokens":[],"pre_tokenizer":{"type":"Whitespace"},"model":{"type":"WordLevel","unk_token":"?","vocab":{"?":0,"red":1,"fox":2}}}
END
gives "whole words" "[1, 2, 0]" "$W/wordlevel" "red fox redfox"
gives "tokens without a decoder" "red fox" "$W/wordlevel" --detokenize "1 2"

# ---- byte-level BPE: a folder and the GGUF that is made of it ----
model=$GOLDEN/text/smollm
cp -r "$model" "$W/hf"
printf '\002\000\000\000\000\000\000\000{}' >"$W/hf/model.safetensors"
for text in "Hello world" "  two blanks" "naïve 中文 <|endoftext|>"; do
    ok "ids: $text" "$LBRX" tokenize "$W/hf" "$text"
    cp "$W/out" "$W/a"
    gives "$text, back" "$text" "$W/hf" --detokenize "$(cat "$W/a")"
done

# ---- long texts: a word of 100 KB, a text of some MB ----
head -c 100000 /dev/zero | tr '\0' b >"$W/word"
"$LBRX" tokenize "$W/spm" <"$W/word" >"$W/out" 2>"$W/err"
if [ "$(tr -cd , <"$W/out" | wc -c)" -eq 100001 ]; then pass; else fail "a long word" "its ids"; fi
awk 'BEGIN { for (i = 0; i < 500000; i++) printf "ab abb " }' >"$W/text"
"$LBRX" tokenize "$W/spm" --memory 128MB <"$W/text" >"$W/out" 2>"$W/err"
if [ "$(tr -cd , <"$W/out" | wc -c)" -eq 1500001 ]; then pass; else fail "a long text" "its ids"; fi

# ---- bad input ----
exits 2 "no model" "$LBRX" tokenize
exits 2 "--jsonl and TEXT" "$LBRX" tokenize "$W/spm" x --jsonl
exits 3 "no such id" "$LBRX" tokenize "$W/spm" --detokenize "[5, 271]"
complains "no such id" "271: the tokenizer has no such token"
exits 3 "a negative id" "$LBRX" tokenize "$W/spm" --detokenize "[-1]"
exits 3 "no list" "$LBRX" tokenize "$W/spm" --detokenize "[1, x]"
exits 3 "two commas" "$LBRX" tokenize "$W/spm" --detokenize "[1,,2]"
exits 3 "no list of numbers" "$LBRX" tokenize "$W/spm" --detokenize "[1 2]"
for line in '[1]' '"ab' '' 'x' '"a" "b"'; do
    printf '"ab"\n%s\n' "$line" | "$LBRX" tokenize "$W/spm" --jsonl >"$W/out" 2>"$W/err"
    if [ $? -eq 3 ] && grep -q '^lbrx: line 2: ' "$W/err"; then pass; else fail "line $line" "no refusal"; fi
done
# a folder whose only tokenizer is a tokenizer.model, and the GGUF of it
"$MAKE_MODEL" hf llama "$W/sp" vocab=384 >/dev/null || exit 1
cp "$GOLDEN/family/tokenizer.model" "$W/sp"
cp "$GOLDEN/family/tokenizer_config_spm.json" "$W/sp/tokenizer_config.json"
ok "tokenizer.model" "$LBRX" convert "$W/sp" -o "$W/sp.gguf" --no-sync -q
for m in sp sp.gguf; do
    gives "$m: words" "[1, 290, 300, 291, 302, 302, 294, 290, 315, 261, 302, 301, 290, 199, 173, 244, 163, 156, 132]" \
        "$W/$m" "hello World é😀"
done
rm "$W/spm/tokenizer.json"
exits 3 "no tokenizer" "$LBRX" tokenize "$W/spm" x
complains "no tokenizer" "no tokenizer.json"
folder bomb <<END
{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a|aa)+\$"},"behavior":"Isolated"},"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]}}
END
exits 4 "a pattern that explodes" "$LBRX" tokenize "$W/bomb" \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"
complains "a pattern that explodes" "gave up"

finish
