package main

import (
	"encoding/json"
	"fmt"
	"log"
	"sync"

	"github.com/gorilla/websocket"
)

// message has what of the signaling protocol is needed here.
type message struct {
	Type       string          `json:"type"`
	Username   string          `json:"username,omitempty"`
	Password   string          `json:"password,omitempty"`
	PeerID     string          `json:"peerId,omitempty"`
	From       string          `json:"from,omitempty"`
	To         string          `json:"to,omitempty"`
	Offer      json.RawMessage `json:"offer,omitempty"`
	Answer     json.RawMessage `json:"answer,omitempty"`
	Candidate  json.RawMessage `json:"candidate,omitempty"`
	Error      string          `json:"error,omitempty"`
	ICEServers []iceServer     `json:"iceServers,omitempty"`
}

type iceServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

// link is a connection to the signaling server that has signed in.
type link struct {
	socket  *websocket.Conn
	servers []iceServer
	writing sync.Mutex
}

func signIn(address, user, password, id string) (*link, error) {
	socket, _, err := websocket.DefaultDialer.Dial(address, nil)
	if err != nil {
		return nil, err
	}
	link := &link{socket: socket}
	welcome, err := link.ask(message{Type: "hello", Username: user, Password: password}, "welcome")
	if err != nil {
		return nil, err
	}
	link.servers = welcome.ICEServers
	_, err = link.ask(message{Type: "register", PeerID: id}, "registered")
	return link, err
}

func (l *link) ask(question message, kind string) (answer message, err error) {
	if err = l.send(question); err != nil {
		return answer, err
	}
	if err = l.socket.ReadJSON(&answer); err == nil && answer.Type != kind {
		err = fmt.Errorf("%s was answered by %s %s", question.Type, answer.Type, answer.Error)
	}
	return answer, err
}

func (l *link) send(message message) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.socket.WriteJSON(message)
}

// read hands on what comes, one after the other, until the end.
func (l *link) read(take func(message) error) {
	for {
		var next message
		if err := l.socket.ReadJSON(&next); err != nil {
			log.Fatal(err)
		}
		if err := take(next); err != nil {
			tell("error", fact{"type": next.Type, "error": err.Error()})
		}
	}
}
