"""Language tags for players: what containers say (ISO 639-2) as RFC 5646 wants it, the shortest code there is."""

from __future__ import annotations

import re

UNDETERMINED = "und"
#: RFC 5646 §2.1, as far as a language with script, region and variants goes.
TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")
#: ISO 639-1 code, then the three-letter codes of the same language (639-2/T, and 639-2/B where it differs).
SHORT = """
aa:aar ab:abk af:afr ak:aka am:amh ar:ara an:arg as:asm av:ava ae:ave ay:aym az:aze ba:bak bm:bam be:bel bn:ben bh:bih
bi:bis bo:bod,tib bs:bos br:bre bg:bul ca:cat cs:ces,cze ch:cha ce:che cu:chu cv:chv kw:cor co:cos cr:cre cy:cym,wel
da:dan de:deu,ger dv:div dz:dzo el:ell,gre en:eng eo:epo et:est eu:eus,baq ee:ewe fo:fao fa:fas,per fj:fij fi:fin
fr:fra,fre fy:fry ff:ful gd:gla ga:gle gl:glg gv:glv gn:grn gu:guj ht:hat ha:hau he:heb hz:her hi:hin ho:hmo hr:hrv
hu:hun hy:hye,arm ig:ibo io:ido ii:iii iu:iku ie:ile ia:ina id:ind ik:ipk is:isl,ice it:ita jv:jav ja:jpn kl:kal kn:kan
ks:kas ka:kat,geo kr:kau kk:kaz km:khm ki:kik rw:kin ky:kir kv:kom kg:kon ko:kor kj:kua ku:kur lo:lao la:lat lv:lav
li:lim ln:lin lt:lit lb:ltz lu:lub lg:lug mh:mah ml:mal mr:mar mk:mkd,mac mg:mlg mt:mlt mn:mon mi:mri,mao ms:msa,may
my:mya,bur na:nau nv:nav nr:nbl nd:nde ng:ndo ne:nep nl:nld,dut nn:nno nb:nob no:nor ny:nya oc:oci oj:oji or:ori om:orm
os:oss pa:pan pi:pli pl:pol pt:por ps:pus qu:que rm:roh ro:ron,rum rn:run ru:rus sg:sag sa:san si:sin sk:slk,slo sl:slv
se:sme sm:smo sn:sna sd:snd so:som st:sot es:spa sq:sqi,alb sc:srd sr:srp ss:ssw su:sun sw:swa sv:swe ty:tah ta:tam
tt:tat te:tel tg:tgk tl:tgl th:tha ti:tir to:ton tn:tsn ts:tso tk:tuk tr:tur tw:twi ug:uig uk:ukr ur:urd uz:uzb ve:ven
vi:vie vo:vol wa:wln wo:wol xh:xho yi:yid yo:yor za:zha zh:zho,chi zu:zul
"""


def tag(code: str) -> str:
    """The tag for what a container says: `eng` → `en`, `pt-BR` → `pt-BR`, nothing or nonsense → `und`."""
    code = code.strip().replace("_", "-")
    if not TAG.fullmatch(code):
        return UNDETERMINED
    language, *rest = code.split("-")
    return "-".join([_shortest(language.lower()), *rest])


def _shortest(language: str) -> str:
    for entry in SHORT.split():
        short, _, long = entry.partition(":")
        if language in long.split(","):
            return short
    return language
