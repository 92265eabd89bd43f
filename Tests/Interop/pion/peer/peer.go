package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/pion/logging"
	"github.com/pion/webrtc"
)

// peer has one connection at a time, to whoever called or was called last.
type peer struct {
	id            string
	link          *link
	api           *webrtc.API
	configuration webrtc.Configuration
	// The DTLS role that offers ask for.
	setup string

	// Held while an order or a message is dealt with: one at a time.
	turn       sync.Mutex
	connection *webrtc.PeerConnection
	// Candidates of the other side that came before its description.
	theirs []webrtc.ICECandidateInit

	// Guards what pion's goroutines use as well.
	sync.Mutex
	other string
	// Candidates that the other side is not to see before the description they belong to.
	isDescribed bool
	own         []webrtc.ICECandidateInit
	channels    map[string]*channel
}

func api(setup string, lite bool) (*webrtc.API, error) {
	engine := webrtc.SettingEngine{}
	// By itself it would write between the facts.
	logs := logging.NewDefaultLoggerFactory()
	logs.Writer = os.Stderr
	engine.LoggerFactory = logs
	engine.SetLite(lite)
	role := map[string]webrtc.DTLSRole{"active": webrtc.DTLSRoleClient, "passive": webrtc.DTLSRoleServer}[setup]
	if role != 0 {
		if err := engine.SetAnsweringDTLSRole(role); err != nil {
			return nil, err
		}
	}
	return webrtc.NewAPI(webrtc.WithSettingEngine(engine)), nil
}

func (p *peer) obey(next order) error {
	p.turn.Lock()
	defer p.turn.Unlock()
	switch next.Do {
	case "call":
		if err := p.begin(next.To); err != nil {
			return err
		}
		if err := p.open(next); err != nil {
			return err
		}
		return p.offer(nil)
	case "restart":
		return p.offer(&webrtc.OfferOptions{ICERestart: true})
	case "open":
		return p.open(next)
	case "hang up":
		p.hangUp()
		return nil
	}
	channel, err := p.channel(next.Label)
	if err != nil {
		return err
	}
	switch next.Do {
	case "exchange":
		go channel.exchange(next)
	case "send":
		go channel.send(next)
	case "close":
		return channel.Close()
	default:
		return fmt.Errorf("what is %s?", next.Do)
	}
	return nil
}

// begin makes the connection anew.
func (p *peer) begin(other string) error {
	p.hangUp()
	connection, err := p.api.NewPeerConnection(p.configuration)
	if err != nil {
		return err
	}
	p.connection, p.theirs = connection, nil
	p.Lock()
	p.other, p.isDescribed, p.own, p.channels = other, false, nil, map[string]*channel{}
	p.Unlock()
	connection.OnICECandidate(p.trickle)
	connection.OnICEConnectionStateChange(func(state webrtc.ICEConnectionState) {
		tell("ice", fact{"state": state.String()})
	})
	connection.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		tell("state", fact{"state": state.String()})
	})
	connection.SCTP().Transport().ICETransport().OnSelectedCandidatePairChange(func(pair *webrtc.ICECandidatePair) {
		tell("pair", fact{"local": end(pair.Local), "remote": end(pair.Remote)})
	})
	connection.OnDataChannel(func(opened *webrtc.DataChannel) { p.add(opened, true) })
	return nil
}

func end(candidate *webrtc.ICECandidate) fact {
	return fact{
		"type": candidate.Typ.String(), "address": candidate.Address, "port": candidate.Port,
		"protocol": candidate.Protocol.String(),
	}
}

func (p *peer) hangUp() {
	if p.connection != nil {
		_ = p.connection.Close()
	}
	p.connection = nil
}

// Descriptions

func (p *peer) offer(options *webrtc.OfferOptions) error {
	if p.connection == nil {
		return errors.New("there is no connection")
	}
	p.Lock()
	p.isDescribed = false
	p.Unlock()
	offer, err := p.connection.CreateOffer(options)
	if err != nil {
		return err
	}
	if err = p.connection.SetLocalDescription(offer); err != nil {
		return err
	}
	// Pion offers no other role than actpass; it takes the one that the answer leaves to it.
	offer.SDP = strings.ReplaceAll(offer.SDP, "a=setup:actpass", "a=setup:"+p.setup)
	return p.describe(offer)
}

func (p *peer) answer(offer webrtc.SessionDescription) error {
	p.Lock()
	p.isDescribed = false
	p.Unlock()
	if err := p.settle(offer); err != nil {
		return err
	}
	answer, err := p.connection.CreateAnswer(nil)
	if err != nil {
		return err
	}
	if err = p.connection.SetLocalDescription(answer); err != nil {
		return err
	}
	return p.describe(answer)
}

// settle takes the other side's description, and the candidates that came before it.
func (p *peer) settle(description webrtc.SessionDescription) error {
	if err := p.connection.SetRemoteDescription(description); err != nil {
		return err
	}
	early := p.theirs
	p.theirs = nil
	for _, candidate := range early {
		if err := p.connection.AddICECandidate(candidate); err != nil {
			return err
		}
	}
	return nil
}

func (p *peer) describe(description webrtc.SessionDescription) error {
	text, err := json.Marshal(description)
	if err != nil {
		return err
	}
	told := message{Type: description.Type.String(), From: p.id, To: p.other}
	if description.Type == webrtc.SDPTypeOffer {
		told.Offer = text
	} else {
		told.Answer = text
	}
	tell("described", fact{"type": description.Type.String(), "sdp": description.SDP})
	p.Lock()
	defer p.Unlock()
	if err = p.link.send(told); err != nil {
		return err
	}
	p.isDescribed = true
	for _, candidate := range p.own {
		p.tellCandidate(candidate)
	}
	p.own = nil
	return nil
}

func (p *peer) trickle(candidate *webrtc.ICECandidate) {
	// The end is told as an empty one.
	var told webrtc.ICECandidateInit
	if candidate != nil {
		told = candidate.ToJSON()
	}
	p.Lock()
	defer p.Unlock()
	if p.isDescribed {
		p.tellCandidate(told)
	} else {
		p.own = append(p.own, told)
	}
}

func (p *peer) tellCandidate(candidate webrtc.ICECandidateInit) {
	text, err := json.Marshal(candidate)
	if err == nil {
		err = p.link.send(message{Type: "ice-candidate", From: p.id, To: p.other, Candidate: text})
	}
	if err != nil {
		tell("error", fact{"error": err.Error()})
	}
}

// What comes by signaling

func (p *peer) take(message message) error {
	p.turn.Lock()
	defer p.turn.Unlock()
	switch message.Type {
	case "offer":
		var offer webrtc.SessionDescription
		if err := json.Unmarshal(message.Offer, &offer); err != nil {
			return err
		}
		tell("offered", fact{"from": message.From, "sdp": offer.SDP})
		if p.connection == nil || p.other != message.From {
			if err := p.begin(message.From); err != nil {
				return err
			}
		}
		return p.answer(offer)
	case "answer":
		var answer webrtc.SessionDescription
		if err := json.Unmarshal(message.Answer, &answer); err != nil {
			return err
		}
		tell("answered", fact{"sdp": answer.SDP})
		return p.settle(answer)
	case "ice-candidate":
		var candidate webrtc.ICECandidateInit
		if err := json.Unmarshal(message.Candidate, &candidate); err != nil {
			return err
		}
		if p.connection == nil || p.connection.RemoteDescription() == nil {
			p.theirs = append(p.theirs, candidate)
			return nil
		}
		return p.connection.AddICECandidate(candidate)
	case "error":
		return fmt.Errorf("signaling: %s", message.Error)
	}
	return nil
}
