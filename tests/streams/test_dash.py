from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from appliance.domain.tracks import TextTrack
from appliance.streams import dash
from appliance.streams.presentation import Presentation
from appliance.streams.segments import ChunkObjects, Extra, Kind
from tests.streams.test_hls import PLAYLISTS, PREFIX, two_chunks
from tests.streams.trees import plan_of

HEAD = """\
<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:full:2011" type="static" \
mediaPresentationDuration="PT4.004S" minBufferTime="PT1.002667S" maxSegmentDuration="PT1.002667S">
  <Period id="1" start="PT0S">
    <AdaptationSet id="1" contentType="video" mimeType="video/mp4" segmentAlignment="true" startWithSAP="1" \
frameRate="30000/1001">
      <Role schemeIdUri="urn:mpeg:dash:role:2011" value="main" />
      <Representation id="180p" bandwidth="479521" codecs="avc1.64000D" width="320" height="180" sar="1:1">
        <SegmentList timescale="30000" duration="30030">
          <Initialization sourceURL="../media/plan/1-c/180p_init.mp4" />
          <SegmentURL media="../media/plan/1-c/180p_00001.m4s" />
          <SegmentURL media="../media/plan/1-c/180p_00002.m4s" />
          <SegmentURL media="../media/plan/1-c/180p_00003.m4s" />
          <SegmentURL media="../media/plan/2-b/180p_00004.m4s" />
        </SegmentList>
      </Representation>
      <Representation id="90p" """
SOUND = """\
    <AdaptationSet id="2" contentType="audio" lang="en" mimeType="audio/mp4" segmentAlignment="true" startWithSAP="1">
      <Role schemeIdUri="urn:mpeg:dash:role:2011" value="main" />
      <Representation id="audio" bandwidth="95745" codecs="mp4a.40.2" audioSamplingRate="48000">
        <AudioChannelConfiguration schemeIdUri="urn:mpeg:dash:23003:3:audio_channel_configuration:2011" value="2" />
        <SegmentList timescale="30000" duration="30030">
          <Initialization sourceURL="../media/plan/0-a/audio_init.mp4" />
          <SegmentURL media="../media/plan/0-a/audio_00001.m4s" />
"""
TEXT = """\
    <AdaptationSet id="3" contentType="text" lang="de" mimeType="text/vtt">
      <Label>Wörter &amp; mehr</Label>
      <Role schemeIdUri="urn:mpeg:dash:role:2011" value="subtitle" />
      <Representation id="text1" bandwidth="200">
        <BaseURL>../media/plan/3-d/text1.vtt</BaseURL>
      </Representation>
    </AdaptationSet>
  </Period>
</MPD>
"""


def test_the_mpd_names_every_segment_with_what_it_costs():
    plan, chunks = two_chunks()
    plan = replace(plan, text=(TextTrack("text1", 2, "ger", "Wörter & mehr"),))
    text = ChunkObjects(3, f"{PREFIX}/3-d", (), (Extra("text1.vtt", Kind.TEXT, 100, "text1"),))

    mpd = dash.manifest(Presentation.of(plan, [*chunks, text], PLAYLISTS))

    assert mpd.startswith(HEAD)
    assert SOUND in mpd
    assert mpd.endswith(TEXT)


def test_sound_alone_is_one_adaptation_set():
    plan = plan_of(Fraction(25), Fraction(4), video=False)

    mpd = dash.manifest(Presentation.of(plan, [chunk for chunk in two_chunks()[1] if not chunk.number], PLAYLISTS))

    assert mpd.count("<AdaptationSet ") == 1
    assert 'contentType="audio"' in mpd


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001)], ids=str)
def test_for_ten_hours_every_segment_of_pictures_and_sound_begins_at_its_multiple_of_the_duration(rate):
    """What dash.js and shaka-player count with: index × duration, off by half an AAC frame at most, never more."""
    plan = plan_of(rate, Fraction(36_000))
    every = Fraction(plan.grid.segment_frames) / rate

    assert all(plan.grid.boundary(k) / rate == k * every for k in range(plan.grid.segments))
    sound = [Fraction(plan.audio_boundary(k) * 1024, 48_000) - k * every for k in range(plan.grid.segments)]
    assert max(map(abs, sound)) <= Fraction(512, 48_000)


def test_durations_are_read_as_they_are_written():
    for seconds in (Fraction(1001, 30000), Fraction(6), Fraction(36_000, 7)):
        said = dash.seconds(dash._duration(seconds))
        assert said is not None
        assert 0 <= said - seconds < Fraction(1, 1_000_000)
    assert dash.seconds("P1D") is None
