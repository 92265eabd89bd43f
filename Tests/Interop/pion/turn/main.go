// TURN by pion/turn, for the tests.
//
//	turn client HOST PORT udp|tcp|tls|dtls USER COUNT AUTHORITIES
//	turn server HOST PORT TLSPORT USER CERTIFICATE KEY
//
// The client makes an allocation, sends that many datagrams through it to a socket of its own, which sends them back,
// and prints what became of them. The server says when it is ready, and ends with standard input. The password of
// either is in TURN_PASSWORD.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	arguments := os.Args[1:]
	password := os.Getenv("TURN_PASSWORD")
	switch {
	case len(arguments) == 7 && arguments[0] == "client":
		told := exchange(plan(arguments[1:], password))
		text, err := json.Marshal(told)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(text))
	case len(arguments) == 7 && arguments[0] == "server":
		if err := serve(arguments[1:], password); err != nil {
			log.Fatal(err)
		}
	default:
		log.Fatal("see the top of main.go")
	}
}
