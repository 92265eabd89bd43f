package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/pion/webrtc"
)

const (
	// Messages of an exchange that are under way at once.
	window = 32
	// How long an exchange waits for a message that may be lost.
	patience = 3 * time.Second
	// More than this of what was sent is not kept waiting.
	bufferedBytes = 1 << 20
)

// channel is a data channel, and what came by it.
type channel struct {
	*webrtc.DataChannel
	isTheirs bool

	sync.Mutex
	count, bytes int
	sum          hash.Hash
	echoes       chan webrtc.DataChannelMessage
	room         chan struct{}
}

func (p *peer) open(next order) error {
	if p.connection == nil {
		return errors.New("there is no connection")
	}
	ordered := !next.Unordered
	opened, err := p.connection.CreateDataChannel(next.Label, &webrtc.DataChannelInit{
		Ordered: &ordered, MaxRetransmits: next.MaxRetransmits, MaxPacketLifeTime: next.MaxPacketLifeTime,
		Protocol: &next.Protocol,
	})
	if err == nil {
		p.add(opened, false)
	}
	return err
}

func (p *peer) add(opened *webrtc.DataChannel, isTheirs bool) {
	added := &channel{
		DataChannel: opened, isTheirs: isTheirs, sum: sha256.New(),
		echoes: make(chan webrtc.DataChannelMessage, window), room: make(chan struct{}, 1),
	}
	p.Lock()
	p.channels[opened.Label()] = added
	p.Unlock()
	opened.OnOpen(func() {
		tell("open", fact{
			"label": opened.Label(), "protocol": opened.Protocol(), "ordered": opened.Ordered(), "theirs": isTheirs,
			"maxRetransmits": opened.MaxRetransmits(), "maxPacketLifeTime": opened.MaxPacketLifeTime(),
		})
	})
	opened.SetBufferedAmountLowThreshold(bufferedBytes / 2)
	opened.OnBufferedAmountLow(func() {
		select {
		case added.room <- struct{}{}:
		default:
		}
	})
	opened.OnMessage(added.take)
	opened.OnError(func(err error) { tell("error", fact{"label": opened.Label(), "error": err.Error()}) })
	opened.OnClose(func() { tell("closed", added.received()) })
}

func (p *peer) channel(label string) (*channel, error) {
	p.Lock()
	defer p.Unlock()
	if found := p.channels[label]; found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("there is no channel %q", label)
}

// take sends back what comes on the other side's channels. On this side's own it may be what was sent.
func (c *channel) take(message webrtc.DataChannelMessage) {
	c.Lock()
	c.count++
	c.bytes += len(message.Data)
	c.sum.Write(message.Data)
	c.Unlock()
	if c.isTheirs {
		if err := c.put(message.Data, message.IsString); err != nil {
			tell("error", fact{"label": c.Label(), "error": err.Error()})
		}
		return
	}
	select {
	case c.echoes <- message:
	default:
	}
}

func (c *channel) received() fact {
	c.Lock()
	defer c.Unlock()
	return fact{
		"label": c.Label(), "count": c.count, "bytes": c.bytes, "sha256": hex.EncodeToString(c.sum.Sum(nil)),
	}
}

// put sends, once there is room.
func (c *channel) put(data []byte, isText bool) error {
	for c.BufferedAmount() > bufferedBytes {
		select {
		case <-c.room:
		case <-time.After(time.Second):
		}
	}
	if isText {
		return c.SendText(string(data))
	}
	return c.Send(data)
}

// send tells the sum of what it sent.
func (c *channel) send(next order) {
	sum, sent := sha256.New(), 0
	for number := 0; number < next.Count; number++ {
		data := content(number, next)
		if err := c.put(data, next.Text); err != nil {
			tell("error", fact{"label": c.Label(), "error": err.Error()})
			break
		}
		sum.Write(data)
		sent += len(data)
	}
	tell("sent", fact{"label": c.Label(), "bytes": sent, "sha256": hex.EncodeToString(sum.Sum(nil))})
}

// exchange sends messages that the other side sends back, and looks at each.
func (c *channel) exchange(next order) {
	sent, came, broken, outOfOrder, bytes := 0, 0, 0, 0, 0
	isBack := make([]bool, next.Count)
	begin := time.Now()
	for came < next.Count {
		for sent < next.Count && sent-came < window {
			if err := c.put(content(sent, next), next.Text); err != nil {
				tell("error", fact{"label": c.Label(), "error": err.Error()})
				return
			}
			sent++
		}
		var echo webrtc.DataChannelMessage
		var lost <-chan time.Time
		if c.MaxRetransmits() != nil || c.MaxPacketLifeTime() != nil {
			lost = time.After(patience)
		}
		select {
		case echo = <-c.echoes:
		case <-lost:
			tell("exchanged", fact{"label": c.Label(), "count": came, "broken": broken, "bytes": bytes})
			return
		}
		number := numberOf(echo.Data, next)
		isSame := number >= 0 && !isBack[number] && echo.IsString == next.Text &&
			string(echo.Data) == string(content(number, next))
		if isSame {
			isBack[number] = true
		} else {
			broken++
		}
		if number != came {
			outOfOrder++
		}
		came++
		bytes += len(echo.Data)
		if came == next.Count/4 {
			tell("underway", fact{"label": c.Label()})
		}
	}
	tell("exchanged", fact{
		"label": c.Label(), "count": came, "broken": broken, "bytes": bytes, "outOfOrder": outOfOrder,
		"milliseconds": time.Since(begin).Milliseconds(),
	})
}

// content begins with the number, and goes on with what follows from it: as text, characters of one byte and more.
func content(number int, next order) []byte {
	data := make([]byte, next.Bytes)
	head := make([]byte, 8)
	binary.BigEndian.PutUint64(head, uint64(number))
	state := uint64(number)*0x9E3779B97F4A7C15 + 1
	for index := range data {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		data[index] = byte(state)
	}
	if !next.Text {
		copy(data, head)
		return data
	}
	for index := range data {
		data[index] = 'a' + data[index]%26
	}
	for index := 10; index+1 < len(data); index += 10 {
		copy(data[index:], "ü")
	}
	copy(data, fmt.Sprintf("%08d", number))
	return data
}

// numberOf is -1 for what was not sent.
func numberOf(data []byte, next order) int {
	number := -1
	switch {
	case len(data) != next.Bytes, len(data) < 8:
	case next.Text:
		if _, err := fmt.Sscanf(string(data[:8]), "%d", &number); err != nil {
			number = -1
		}
	case len(data) >= 8:
		number = int(binary.BigEndian.Uint64(data))
	}
	if number >= next.Count {
		return -1
	}
	return number
}
