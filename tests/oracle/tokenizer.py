#!/usr/bin/env python3
"""Writes CLIP's merges and tests/fixtures/tokenizer, what transformers' CLIPTokenizer makes of a thousand prompts.

    pip install transformers open_clip_torch; python tests/oracle/tokenizer.py

`crates/models/src/tokenizer/clip-merges.txt.gz` are the first 48,894 merges of OpenAI's vocabulary (MIT licence), which
open_clip ships and of which CLIP uses no more. The vocabulary follows from them, here and in the library: 256 byte units,
the same at a word's end, the merges and the two special tokens.
"""

import gzip
import importlib.util
import json
import os
import random
import tempfile

from transformers import CLIPTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "..", "fixtures", "tokenizer")
PACKED = os.path.join(HERE, "..", "..", "crates", "models", "src", "tokenizer", "clip-merges.txt.gz")
MERGES = 49152 - 256 - 2
START, END = "<|startoftext|>", "<|endoftext|>"

WORDS = """a the of in and with photo portrait castle astronaut riding horse moon cat dog dragon cyberpunk city neon
rain watercolor oil painting trending artstation octane render 8k highly detailed sharp focus studio lighting bokeh
Rembrandt Hokusai Mucha Greg Rutkowski masterpiece best quality unreal engine impressionism pneumonoultramicroscopic
antidisestablishmentarianism steampunk mountains forest river sunset girl boy woman man knight armor sword magical
glowing eyes intricate symmetrical close-up wide-angle f/1.8 35mm DSLR HDR NASA xkcd qwertyuiop zzz""".split()

LINES = """Un château français au coucher du soleil, peint à l'huile
Ein schöner großer Löwe läuft über die Straße
El niño comió jalapeños mañana por la mañana
Uma praia tropical com coqueiros e água cristalina, São Paulo
Żółta łódź płynie po jeziorze, gdzie śpią źrebięta
Příliš žluťoučký kůň úpěl ďábelské ódy
Nguyễn Văn A đi chợ mua phở và bánh mì
İstanbul'da yağmurlu bir gece, IŞIK ve gölge
Ærlige mænd på ø-en spiser blåbærgrød
Árvíztűrő tükörfúrógép
Красивая девушка в лесу зимой, высокая детализация
Україна: їжак і ґава, єдність
Ο ΣΊΣΥΦΟΣ σπρώχνει τον βράχο
一只可爱的猫坐在窗台上，水彩画
繁體中文：龍與鳳凰，細節豐富
桜の木の下で本を読む少女、アニメ風
カタカナとひらがなと漢字が混ざった文ﾊﾝｶｸ
한국어 문장: 서울의 밤거리, 네온 불빛
สวัสดีครับ ช้างไทยในป่า
قطة جميلة تجلس على النافذة
שלום עולם, ירושלים של זהב
नमस्ते दुनिया, हिमालय पर सूर्योदय
বাংলা ভাষায় একটি সুন্দর ছবি
தமிழ் மொழியில் ஒரு பூனை
ქართული ენა და მთები
Հայերեն տեքստ լեռների մասին
ሰላም ለዓለም
សួស្តីពិភពលោក
Ꭰꮃꭺ ᎠᏂᏴᏫᏯ
ÀÉÎÕÜ àéîõü ǅ ǆ ß ẞ ﬁ ﬂ Ⅷ ½ ² ₃ ① 🄰
e\u0301 n\u0303 A\u030a o\u0308 \u1e9b\u0323 \u212b \u2126
don't can't we're they've I'm she'll he'd O'Neill's rock'n'roll 'tis ''s '' ' DON'T WE'RE
don’t “curly quotes” – en — em … ellipsis
1 22 333 4444 1,000,000.50 3.14159 1e-10 0xDEADBEEF 2nd 10% $5 €7 ¥9 №3
٠١٢٣ ۴۵۶ १२३ １２３ 一二三 ⅓ ④ 𝟘𝟙
😀 😀😀 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ❤️ ☺︎ ✨🔥💯 🐈‍⬛
a😀b 😀, (😀:1.3) #😀
(masterpiece:1.2), ((best quality)), [low quality], <lora:detail:0.8>
__wildcard__ {a|b|c} [from:to:0.5] a AND b BREAK c
&amp; &lt;tag&gt; &#39;quoted&#39; &nbsp; &eacute; &amp;amp;
<html><body class="x">text</body></html>
https://example.com/path?query=1&b=2#frag user@example.com C:\\Users\\x
!!! ??? ... ,,, ;;; ::: --- ___ *** ~~~ ``` @@@ ### $$$ %%% ^^^ &&& ((( ))) [[[ ]]]
!?!?.,;: -> <- <=> != == && || ++ -- // /* */ ::
hello! hello ! !hello ! hello!world
tab\there\nnewline\r\ncarriage   many    spaces
  leading and trailing  
\u00a0nbsp\u00a0\u2003em\u2009thin\u3000ideographic\u2028line\u2029para\u0085nel
zero\u200bwidth\u200cjoiner\u200dand\ufeffbom\u2060wj\u00adsoft
\u0000nul\u0001\u0002ctrl\u001b[31m\u007fdel\u0080c1\u009f
\u001c\u001d\u001e\u001f separators \u000b vt \u000c ff
\u202eright to left override\u202c
Z̸̖͐a̶̰͝l̷̢̛g̵̱̈o̴̭͌ ţ̷̑e̵͚̕x̶̱͝t̸̠̄
𝒯𝒽ℯ 𝓆𝓊𝒾𝒸𝓀 𝔟𝔯𝔬𝔴𝔫 𝕗𝕠𝕩 ＦＵＬＬＷＩＤＴＨ ｈａｌｆ
\U0001f9ff\U0001fae0\U0001faf6 \U000e0067\U000e007f \uffff \ufffd \ue000 \U0010ffff
<|startoftext|> inside <|endoftext|> and <|ENDOFTEXT|> <|startoftext |>
<|endoftext|><|endoftext|>x<|startoftext|>y
ΑΒΓ ΣΑΣ Σ ς ϐ ϑ
ŉ ǰ ΐ ﬀ ﬃ ﬅ ﬓ Ⱥ Ⱦ ẞ
CamelCase snake_case kebab-case dot.case UPPER lower MiXeD
supercalifragilisticexpialidocious Donaudampfschifffahrtsgesellschaftskapitän
Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch""".split("\n")


def prompts():
    """A thousand texts: edges, sentences of many languages, and mixtures of both by a fixed seed."""
    draw = random.Random(0)
    lines = LINES
    texts = ["", " ", "a", "!", ",", "\n", "\u0301", "x" * 5000, "ab" * 999, "é" * 700, "猫" * 300, "😀" * 100]
    texts += [" " * 3000 + "end", "!" * 999, "a, " * 200, "1" * 300, "((((" * 100, "'s" * 50, "\u0301" * 60]
    texts += lines + [line.upper() for line in lines] + [line.lower() for line in lines]
    texts = dict.fromkeys(texts)
    letters = [chr(c) for c in [*range(0x20, 0x17F), *range(0x370, 0x400), *range(0x3040, 0x30FF), *range(0x2190, 0x2200)]]
    while len(texts) < 1000:
        kind = draw.randrange(6)
        words = draw.choices(WORDS, k=draw.randint(1, 30))
        if kind == 0:
            text = " ".join(words)
        elif kind == 1:
            text = draw.choice([", ", ",", " , ", "  ", "; ", " | "]).join(words)
        elif kind == 2:
            text = " ".join(draw.choice([str.upper, str.title, str.swapcase])(word) for word in words)
        elif kind == 3:
            text = draw.choice(lines)[draw.randrange(8) :] + draw.choice(lines)[: draw.randrange(30)] + words[0]
        elif kind == 4:
            text = "".join(draw.choices(letters, k=draw.randint(1, 40)))
        else:
            text = "".join(word + draw.choice(["", " ", "'s ", "!", "\t", "-", "2 ", "é "]) for word in words)
        texts[text] = None
    return list(texts)


def units():
    """The characters that stand for the bytes, in the order of their ids."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def tokenizer(folder, merges, files):
    """The tokenizer of a folder with these files beside the vocabulary."""
    vocab = units() + [unit + "</w>" for unit in units()] + [merge.replace(" ", "") for merge in merges] + [START, END]
    with open(os.path.join(folder, "vocab.json"), "w") as f:
        json.dump({token: i for i, token in enumerate(vocab)}, f)
    with open(os.path.join(folder, "merges.txt"), "w") as f:
        f.write("\n".join(["#version: 0.2", *merges]) + "\n")
    for name, content in files.items():
        with open(os.path.join(folder, name), "w") as f:
            json.dump(content, f)
    return CLIPTokenizer.from_pretrained(folder)


def added(content, normalized):
    return dict(content=content, lstrip=False, normalized=normalized, rstrip=False, single_word=False)


def layouts():
    """The files beside the vocabulary as Stable Diffusion 1.x, 2.x and XL's second encoder have them."""
    names = dict(bos_token=added(START, True), eos_token=added(END, True), unk_token=added(END, True))
    config = dict(model_max_length=77, tokenizer_class="CLIPTokenizer", pad_token=END)
    decoder = {"0": added("!", False), "49406": added(START, True), "49407": added(END, True)}
    decoder = {i: dict(token, special=True) for i, token in decoder.items()}
    return {
        "sd1": {
            "tokenizer_config.json": config | {k: {"__type": "AddedToken", **v} for k, v in names.items()},
            "special_tokens_map.json": names | {"pad_token": END},
        },
        "sd2": {
            "tokenizer_config.json": config | {k: {"__type": "AddedToken", **v} for k, v in names.items()},
            "special_tokens_map.json": names | {"pad_token": "!"},
        },
        "sdxl2": {
            "tokenizer_config.json": config
            | dict(added_tokens_decoder=decoder, bos_token=START, eos_token=END, unk_token=END, pad_token="!"),
            "special_tokens_map.json": names | {"pad_token": "!"},
        },
        "bare": {},
    }


def main():
    os.makedirs(FIXTURES, exist_ok=True)
    vocabulary = os.path.join(
        os.path.dirname(importlib.util.find_spec("open_clip").origin), "bpe_simple_vocab_16e6.txt.gz"
    )
    with gzip.open(vocabulary, "rt", encoding="utf-8") as f:
        merges = f.read().split("\n")[1 : MERGES + 1]
    with open(PACKED, "wb") as f:
        text = "\n".join(["#version: 0.2", *merges]) + "\n"
        f.write(gzip.compress(text.encode(), compresslevel=9, mtime=0))
    texts = prompts()
    with tempfile.TemporaryDirectory() as folder:
        plain = tokenizer(folder, merges, layouts()["sd1"])
        cases = [dict(text=text, ids=plain(text, add_special_tokens=False).input_ids) for text in texts]
    with open(os.path.join(FIXTURES, "prompts.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(case, ensure_ascii=True, separators=(",", ":")) for case in cases) + "\n]\n")
    padded = [text for text in texts if len(text) < 300][:: 12] + [line for line in LINES if "!" in line or "<|" in line]
    padded += ["a photo of a cat!", "word " * 74, "word " * 75, "word " * 76, "word " * 200, "x! " * 40]
    folders = {}
    for name, files in layouts().items():
        with tempfile.TemporaryDirectory() as folder:
            made = tokenizer(folder, merges, files)
            options = dict(padding="max_length", max_length=77, truncation=True)
            folders[name] = dict(files=files, ids=[made(text, **options).input_ids for text in padded])
    with open(os.path.join(FIXTURES, "folders.json"), "w") as f:
        json.dump(dict(texts=padded, folders=folders), f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
